"""How many seconds of a movie are classified per second, from the file to the prediction, and in how much memory.

    python -m benchmarks.pipeline [--device cuda]

The paper's model with random weights: ViT-L/16, S4 decoder over windows of 60 s (L = 11820, d = 1024, three blocks),
stride 1 s, one frame per second. Movies of 63 s, so four windows, H.264 (see movies/textured.py; GOP 48, 3 B-frames),
360p and 1080p. Three ways through the same code:

- straightforward: the published scripts' way. Every frame is decoded, frames are encoded one at a time in float32 by
  PyTorch's own operators, SSM convolution kernels are generated anew for each window (baselines/straightforward.py),
  one stage after another.
- checkpoint: `vis4mer run --bundle CHECKPOINT` with its defaults, precision auto.
- bundle: the same for the output of `vis4mer export --format pt2 --precision bf16` for that checkpoint.

The latter two run once with their stages in turn, and once as they are, with the video decoder ahead. Seconds are split
by stage where stages run in turn. "resize" is the time of as many resizings of a picture of the movie's size, measured
by themselves after the run. "decode" is what remains beside the other three: opening, indexing, demuxing, decoding,
conversion to RGB, cutting windows. "overlap" is the share of the in-turn time that working ahead saves. After a run
that does not count, the straightforward way runs once, the others in turn with each other three times; medians.

Memory is the peak of a process that classifies a movie of two hours, and of one that classifies four minutes (the same
minute repeated, 24 frames/s, 360p, GOP 24), with the small model of samples/bundle: a window per second.

On a GPU, every way runs there: the straightforward one with PyAV, the others with the video decoder that
`--video-decoder auto` chooses. Bundles of every format are measured, in half precision; one that cannot be built or run
is left out with the reason. Seconds by stage include the time until the GPU is idle. "device_bytes" is the memory of
the GPU that a way holds after a movie in 1080p, video decoder included.

Takes a quarter of an hour and 10 GB of memory on two cores. Writes results/pipeline.json; on a GPU, the file name
includes the GPU's name.
"""

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

import numpy as np

import vis4mer
from benchmarks.baselines.every_packet import DecodeEverything
from benchmarks.baselines.straightforward import StraightforwardDecoder
from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.measure.calls import by_pytorch
from benchmarks.measure.devices import device_of, held_bytes, waiting
from benchmarks.movies.textured import Coding, make_movies, repeat
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import Vis4merError
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.aggregation import MovieAggregator
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.eager import EagerRunner
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.interface import ENCODER
from vis4mer.runtime.loading import eager_runners
from vis4mer.runtime.manifest import Precision
from vis4mer.runtime.precision import ChosenPrecision
from vis4mer.runtime.prediction import HeadPrediction
from vis4mer.runtime.stages import batched
from vis4mer.video import VideoInfo, VideoReader, open_video, scan
from vis4mer.video.resize import resize
from vis4mer_export.exporter import export_model
from vis4mer_export.options import ExportOptions

T = TypeVar("T")
R = TypeVar("R")

REPEATS, BATCH_SIZE = 3, 32
SIZES = {"360p": (640, 360), "1080p": (1920, 1080)}
HEAD = "scene"
STAGES = ("decode", "resize", "encode", "S4 decode")
# Bundles by the kind of device; the key is the way's name.
BUNDLES: dict[str, dict[str, tuple[str, Precision]]] = {
    "cpu": {"bundle": ("pt2", "bf16")},
    "cuda": {
        "bundle, pt2": ("pt2", "bf16"),
        "bundle, torchscript": ("torchscript", "bf16"),
        "bundle, onnx": ("onnx", "fp16"),
        "bundle, trt": ("trt", "fp16"),
        "bundle, trt-rtx": ("trt-rtx", "fp16"),
    },
}
OpenMovie = Callable[[Path, Preprocessing, int], VideoReader]
BUNDLE = Path(__file__).parents[1] / "samples" / "bundle"

_PEAK = """
import re, sys, vis4mer
vis4mer.load(sys.argv[1], device=sys.argv[3])(sys.argv[2])
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


class Stopwatch:
    """Adds up the seconds that calls take, by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, stage: str, call: Callable[[T], R]) -> Callable[[T], R]:
        """Returns `call` with its time added to `stage`."""

        def run(argument: T) -> R:
            start = time.perf_counter()
            result = call(argument)
            self.seconds[stage] += time.perf_counter() - start
            return result

        return run


class Run(NamedTuple):
    """One prediction.

    Attributes:
        wall: Seconds in all.
        stages: Seconds by stage, which sum to `wall`; empty if the stages overlap.
        probabilities: Probabilities of the first head's labels.
        video_decoder: Video decoder that was used.
    """

    wall: float
    stages: dict[str, float]
    probabilities: list[float]
    video_decoder: str


class Way(NamedTuple):
    """A model that is ready to run.

    Attributes:
        model: The model.
        device_bytes: Memory of the GPU that it holds after a movie; None on the CPU.
    """

    model: Classifier
    device_bytes: int | None


def paper_model(tiny: bool) -> Vis4mer:
    """Returns the paper's model, or a small one with windows of 10 s."""
    torch.manual_seed(0)
    encoder = EncoderConfig("vit_tiny_patch16_224", 197, 192) if tiny else EncoderConfig()
    windows = WindowConfig(seconds=10 if tiny else 60)
    length, d_model = windows.frames(1) * encoder.tokens, 64 if tiny else encoder.features
    decoder = DecoderConfig(encoder.features, length, d_output=10, d_model=d_model, n_layers=3)
    config = ModelConfig({HEAD: HeadConfig(decoder)}, encoder, windows=windows)
    return Vis4mer(config).eval().requires_grad_(False)


def straightforward(model: Vis4mer, device: Device = CPU) -> Classifier:
    """Returns the model as the published scripts run it."""
    decoder = StraightforwardDecoder(model.head(HEAD).config).eval().requires_grad_(False)
    decoder.load_state_dict(model.head(HEAD).state_dict())
    assert model.encoder is not None
    modules = {ENCODER: copy.deepcopy(model.encoder), HEAD: decoder}
    runners = {name: EagerRunner(module.to(str(device)), name, device) for name, module in modules.items()}
    return _classifier(model, runners, ChosenPrecision("fp32", "as published"), device)


def checkpoint(model: Vis4mer, device: Device = CPU) -> Classifier:
    """Returns the model as it runs from a checkpoint."""
    # A copy is moved, because bundles are exported from a model on the CPU.
    return _classifier(model, *eager_runners(copy.deepcopy(model), device), device)


def export(model: Vis4mer, folder: Path, format: str, precision: Precision, device: Device = CPU) -> Path:
    """Exports the model and returns the bundle's folder."""
    given = {"device": device.kind} if format == "pt2" else {}
    options = ExportOptions(format, precision, target_options=given)
    return export_model(model, folder / f"{format}-{precision}", options).path


def _classifier(
    model: Vis4mer, runners: Mapping[str, Runner], precision: ChosenPrecision, device: Device
) -> Classifier:
    return Classifier(model.config, runners, source="", device=device, device_reason="", precision=precision)


def run_in_turn(model: Classifier, movie: Path, batch_size: int, open_movie: OpenMovie) -> Run:
    """Classifies a movie one stage after another, and times the stages."""
    stages, preprocessing, watch = model.stages, model.model.preprocessing, Stopwatch()
    encode = watch.timed("encode", finished(stages.encode, model.device))
    run_heads = watch.timed("S4 decode", finished(stages.run_heads, model.device))
    windows_at_once = max(1, batch_size // model.model.window_frames)
    start = time.perf_counter()
    with open_movie(movie, preprocessing, batch_size) as reader:
        aggregator = MovieAggregator(model.model, duration=reader.info.duration)
        for windows in batched(stages.cut_windows(map(encode, reader)), windows_at_once):
            aggregator.add(windows, run_heads(windows))
        heads = aggregator.predictions()
    wall = time.perf_counter() - start
    if reader.name == "pyav":  # elsewhere resizing is a part of decoding
        watch.seconds["resize"] = resize_seconds(reader.info, preprocessing, reader.n_frames)
    watch.seconds["decode"] = wall - sum(watch.seconds.values())
    return Run(wall, {stage: watch.seconds[stage] for stage in STAGES}, _probabilities(heads), reader.name)


def run_ahead(model: Classifier, movie: Path, batch_size: int) -> Run:
    """Classifies a movie as `vis4mer run` does, with its stages at the same time."""
    start = time.perf_counter()
    prediction = model(movie, batch_size=batch_size)
    return Run(time.perf_counter() - start, {}, _probabilities(prediction.heads), prediction.video_decoder)


def resize_seconds(info: VideoInfo, preprocessing: Preprocessing, frames: int) -> float:
    """Measures how many seconds it takes to resize a picture of the movie's size `frames` times."""
    picture = np.random.default_rng(0).integers(0, 256, (3, info.height, info.width), dtype=np.uint8)
    start = time.perf_counter()
    for _ in range(frames):
        resize(picture, preprocessing)
    return time.perf_counter() - start


def finished(call: Callable[[T], R], device: Device) -> Callable[[T], R]:
    """Returns `call`, on a GPU together with the wait for its result."""
    return lambda argument: waiting(partial(call, argument), device)()


def open_planned(movie: Path, preprocessing: Preprocessing, batch_size: int, device: Device = CPU) -> VideoReader:
    """Opens a movie as `vis4mer run` does."""
    return open_video(movie, preprocessing, batch_size=batch_size, device=device)


def open_everything(movie: Path, preprocessing: Preprocessing, batch_size: int) -> VideoReader:
    """Opens a movie for a reader that decodes every frame."""
    return DecodeEverything(scan(movie), preprocessing, reason="benchmark", batch_size=batch_size)


def _probabilities(heads: Mapping[str, HeadPrediction]) -> list[float]:
    return list(heads[HEAD].probabilities.values())


def measure(
    slow: Classifier, fast: Mapping[str, Way], movie: Path, seconds: int, device: Device = CPU
) -> list[dict[str, Any]]:
    """Measures the ways through one movie.

    Args:
        slow: Model of the straightforward way.
        fast: Models of the other ways, by name.
        movie: File of the movie.
        seconds: Duration of the movie.
        device: Device of the models.

    Returns:
        A row for the straightforward way, and two for each other way: with its stages in turn, and as it is.
    """
    opened = partial(open_planned, device=device)
    for way in fast.values():  # the first run of a movie's size
        run_in_turn(way.model, movie, BATCH_SIZE, opened)
    straightforward_run = by_pytorch(partial(run_in_turn, slow, movie, 1, open_everything))
    _, baseline = straightforward_run(), straightforward_run()
    runs: dict[str, list[tuple[Run, Run]]] = {name: [] for name in fast}
    for _ in range(REPEATS):
        for name, way in fast.items():
            in_turn = run_in_turn(way.model, movie, BATCH_SIZE, opened)
            runs[name].append((in_turn, run_ahead(way.model, movie, BATCH_SIZE)))

    def row(way: str, precision: str, result: Run, saved: float | None = None) -> dict[str, Any]:
        return {
            "way": way,
            "precision": precision,
            "video_decoder": result.video_decoder,
            "seconds": round(result.wall, 2 if device.kind == "cpu" else 4),
            "movie_seconds_per_second": round(seconds / result.wall, 3),
            "faster": round(baseline.wall / result.wall, 2),
            "stages": {name: round(taken, 2 if device.kind == "cpu" else 4) for name, taken in result.stages.items()},
            "overlap": None if saved is None else round(saved, 3),
            "drift": max(abs(a - b) for a, b in zip(result.probabilities, baseline.probabilities, strict=True)),
        }

    rows = [row("straightforward", "fp32", baseline)]
    for name, pairs in runs.items():
        in_turn, ahead = (sorted(alike, key=lambda run: run.wall)[REPEATS // 2] for alike in zip(*pairs, strict=True))
        saved = statistics.median(1 - both.wall / alone.wall for alone, both in pairs)
        precision, held = fast[name].model.precision.precision, fast[name].device_bytes
        both_rows = [row(f"{name}, in turn", precision, in_turn), row(name, precision, ahead, saved)]
        rows += both_rows if held is None else [{**each, "device_bytes": held} for each in both_rows]
    return rows


def peak_megabytes(movie: Path, device: Device = CPU) -> float:
    """Returns the peak resident memory of a separate process that classifies `movie`, in MB."""
    command = [sys.executable, "-c", _PEAK, str(BUNDLE), str(movie), str(device)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024 / 1e6


def show(movie: str, row: Mapping[str, Any]) -> None:
    """Prints a row of the table."""
    stages = "".join(f"{row['stages'].get(name, ''):>10}" for name in STAGES)
    overlap = "" if row["overlap"] is None else f"{row['overlap']:.1%}"
    speed = f"{row['movie_seconds_per_second']:>9.2f} {row['faster']:>7.1f}x"
    print(
        f"{movie:<6} {row['way']:<20} {row['precision']:<5}{speed}{stages}{overlap:>8}  {row['drift']:.0e}", flush=True
    )


def measure_all(options: argparse.Namespace) -> Result:
    """Makes the movies, measures, and prints the tables."""
    tiny, device = options.tiny, device_of(options.device)
    model, rows, peaks = paper_model(tiny), [], []
    seconds, minutes = model.config.window_frames + 3, (1, 4) if tiny else (4, 120)
    with tempfile.TemporaryDirectory() as folder:
        movies = {size: Path(folder) / f"{size}.mp4" for size in SIZES}
        make_movies(seconds, {movies[size]: Coding(48, 3, *pixels) for size, pixels in SIZES.items()}, "veryfast")
        print(f"{'movie':<27}{'':<6}movie s/s  faster" + "".join(f"{name:>10}" for name in STAGES) + " overlap  drift")
        ways, left_out = _ways(model, Path(folder), movies["1080p"], device)
        slow = straightforward(model, device)
        for size, movie in movies.items():
            for row in measure(slow, ways, movie, seconds, device):
                rows.append({"movie": size, **row})
                show(size, row)
        minute = Path(folder) / "minute.mp4"
        make_movies(60, {minute: Coding(24, 3)}, "veryfast")
        for length in minutes:
            repeat(minute, movie := Path(folder) / f"{length}.mp4", length)
            peaks.append({"minutes": length, "peak_megabytes": round(peak_megabytes(movie, device), 1)})
    ratio = peaks[1]["peak_megabytes"] / peaks[0]["peak_megabytes"]
    print("peak memory:", ", ".join("{peak_megabytes} MB for {minutes} minutes".format(**peak) for peak in peaks))
    result = {"rows": rows, "memory": peaks, "memory_ratio": ratio}
    return result | ({"left_out": left_out} if left_out else {})


def _ways(model: Vis4mer, folder: Path, movie: Path, device: Device) -> tuple[dict[str, Way], list[dict[str, str]]]:
    """Returns the checkpoint's way and that of every bundle, each run once, and the bundles that cannot be run."""
    ways, left_out = {"checkpoint": _ready(partial(checkpoint, model, device), movie, device)}, []
    for way, (format, precision) in BUNDLES[device.kind].items():
        try:
            path = export(model, folder, format, precision, device)
            ways[way] = _ready(partial(vis4mer.load, path, device), movie, device)
        except Vis4merError as error:
            left_out.append({"way": way, "reason": str(error)})
            print(f"{way}: left out: {error}", flush=True)
    return ways, left_out


def _ready(load: Callable[[], Classifier], movie: Path, device: Device) -> Way:
    def load_and_run() -> Classifier:
        model = load()
        run_in_turn(model, movie, BATCH_SIZE, partial(open_planned, device=device))  # loads libraries, fills caches
        return model

    return Way(*held_bytes(load_and_run, device))


BENCHMARK = Benchmark("pipeline", __doc__, measure_all, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
