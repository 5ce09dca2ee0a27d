"""How many seconds of a movie are classified in a second, from the file to the prediction, and in how much memory.

    python benchmarks/pipeline.py

The paper's model with random weights: ViT-L/16, S4 decoder over windows of 60 s (L = 11820, d = 1024, three blocks),
stride 1 s, one frame a second. Movies of 63 s, so four windows, H.264 (see movies.py; GOP 48, 3 B-frames), 360p and
1080p. Three ways through the same code:

- straightforward: what the published scripts do. Every frame is decoded, frames are encoded one at a time in float32 by
  PyTorch's own operators, SSM convolution kernels are generated anew for each window (baselines/straightforward.py),
  one stage after another.
- checkpoint: `vis4mer run --bundle CHECKPOINT` with its defaults, precision auto.
- bundle: the same of what `vis4mer export --format pt2 --precision bf16` makes of the checkpoint.

The latter two run once with their stages in turn, and once as they are, with the video decoder ahead. Seconds are split
by stage where stages come in turn. "decode" is what remains beside the other three: opening, indexing, demuxing,
decoding, conversion to RGB, cutting windows. "overlap" is the share of the in-turn time that working ahead saves. After
a run that does not count, the straightforward way runs once, the others in turn with each other three times; medians.

Memory is the peak of a process that classifies a movie of two hours, and of one that classifies four minutes (the same
minute again and again, 24 frames/s, 360p, GOP 24), with the small model of samples/bundle: a window a second.

Takes a quarter of an hour and 10 GB of memory on two cores. Writes results/pipeline.json.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self
from unittest.mock import patch

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

from baselines.straightforward import StraightforwardDecoder
from calls import by_pytorch
from measure import machine, save
from movies import Coding, make_movies, repeat
from video import DecodeEverything

import vis4mer
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, WindowConfig
from vis4mer.devices.device import CPU
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime import classifier
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.eager import EagerRunner
from vis4mer.runtime.bundle import ENCODER
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.loading import eager_runners
from vis4mer.runtime.precision import Chosen
from vis4mer.video import sampled
from vis4mer.video.movie import scan
from vis4mer_export.exporter import ExportOptions, export_model

REPEATS, BATCH_SIZE = 3, 32
SIZES = {"360p": (640, 360), "1080p": (1920, 1080)}
HEAD = "scene"
STAGES = ("decode", "resize", "encode", "S4 decode")
BUNDLE = Path(__file__).parents[1] / "samples" / "bundle"

_PEAK = """
import re, sys, vis4mer
vis4mer.load(sys.argv[1], device="cpu")(sys.argv[2])
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


class InTurn:
    """In the place of `Overlap`: every stage in the calling thread, when its next item is asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ahead(self, items: Iterable[Any]) -> Iterator[Any]:
        """Gives the items as they are made."""
        return iter(items)


class Run(NamedTuple):
    """One prediction: how long it took, in all and by stage, and the first head's probabilities."""

    wall: float
    stages: dict[str, float]
    probabilities: list[float]


def paper_model(tiny: bool) -> Vis4mer:
    """The paper's model, or a small one with windows of 10 s to try this file with."""
    torch.manual_seed(0)
    encoder = EncoderConfig("vit_tiny_patch16_224", 197, 192) if tiny else EncoderConfig()
    windows = WindowConfig(seconds=10 if tiny else 60)
    length, d_model = windows.frames(1) * encoder.tokens, 64 if tiny else encoder.features
    decoder = DecoderConfig(encoder.features, length, d_output=10, d_model=d_model, n_layers=3)
    config = ModelConfig({HEAD: HeadConfig(decoder)}, encoder, windows=windows)
    return Vis4mer(config).eval().requires_grad_(False)


def straightforward(model: Vis4mer) -> Classifier:
    """The model as the published scripts run it."""
    decoder = StraightforwardDecoder(model.head(HEAD).config).eval().requires_grad_(False)
    decoder.load_state_dict(model.head(HEAD).state_dict())
    assert model.encoder is not None
    runners = {ENCODER: EagerRunner(model.encoder, ENCODER, CPU), HEAD: EagerRunner(decoder, HEAD, CPU)}
    return _classifier(model, runners, Chosen("fp32", "as published"))


def checkpoint(model: Vis4mer) -> Classifier:
    """The model as a checkpoint of it runs."""
    return _classifier(model, *eager_runners(model, CPU))


def bundle(model: Vis4mer, folder: Path) -> Classifier:
    """The model as the fastest of its bundles runs on a CPU."""
    return vis4mer.load(export_model(model, folder, ExportOptions("pt2", "bf16")).path, device="cpu")


def _classifier(model: Vis4mer, runners: Mapping[str, Runner], precision: Chosen) -> Classifier:
    return Classifier(model.config, runners, source="", device=CPU, device_reason="", precision=precision)


def run(model: Classifier, movie: Path, *, overlapped: bool, everything: bool = False, batch_size: int) -> Run:
    """Classifies a movie and times the stages; their sum is the wall time unless they overlap."""
    seconds: Counter[str] = Counter()

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments)
            seconds[stage] += time.perf_counter() - start
            return result

        return run

    names = {ENCODER: "encode", HEAD: "S4 decode"}
    runners = {name: timed(names[name], runner) for name, runner in model._runners.items()}
    watched = Classifier(model.model, runners, source="", device=CPU, device_reason="", precision=model.precision)

    def open_everything(path: Path, preprocessing: Any, *, batch_size: int, **_: object) -> DecodeEverything:
        return DecodeEverything(scan(path), preprocessing, reason="benchmark", batch_size=batch_size)

    with (
        patch.object(sampled, "resize", timed("resize", sampled.resize)),
        patch.object(classifier, "Overlap", classifier.Overlap if overlapped else InTurn),
        patch.object(classifier, "open_video", open_everything if everything else classifier.open_video),
    ):
        start = time.perf_counter()
        classify = partial(watched, movie, batch_size=batch_size)
        prediction = (by_pytorch(classify) if everything else classify)()
        wall = time.perf_counter() - start
    seconds["decode"] = wall - seconds.total()
    return Run(wall, {stage: seconds[stage] for stage in STAGES}, list(prediction.probabilities.values()))


def measure(slow: Classifier, fast: Mapping[str, Classifier], movie: Path, seconds: int) -> list[dict[str, Any]]:
    """The ways through one movie: a row for the slow one, and of each fast one for its stages in turn and ahead."""
    for model in fast.values():  # loads libraries, fills caches
        run(model, movie, overlapped=False, batch_size=BATCH_SIZE)
    _, baseline = (run(slow, movie, overlapped=False, everything=True, batch_size=1) for _ in range(2))
    runs: dict[str, list[tuple[Run, Run]]] = {way: [] for way in fast}
    for _ in range(REPEATS):
        for way, model in fast.items():
            in_turn, ahead = (run(model, movie, overlapped=o, batch_size=BATCH_SIZE) for o in (False, True))
            runs[way].append((in_turn, ahead))

    def row(way: str, precision: str, result: Run, saved: float | None = None) -> dict[str, Any]:
        return {
            "way": way,
            "precision": precision,
            "seconds": round(result.wall, 2),
            "movie_seconds_per_second": round(seconds / result.wall, 3),
            "faster": round(baseline.wall / result.wall, 2),
            "stages": {name: round(taken, 2) for name, taken in result.stages.items()} if saved is None else {},
            "overlap": None if saved is None else round(saved, 3),
            "drift": max(abs(a - b) for a, b in zip(result.probabilities, baseline.probabilities, strict=True)),
        }

    rows = [row("straightforward", "fp32", baseline)]
    for way, pairs in runs.items():
        in_turn, ahead = (sorted(alike, key=lambda run: run.wall)[REPEATS // 2] for alike in zip(*pairs, strict=True))
        saved = statistics.median(1 - both.wall / alone.wall for alone, both in pairs)
        precision = fast[way].precision.precision
        rows += [row(f"{way}, in turn", precision, in_turn), row(way, precision, ahead, saved)]
    return rows


def peak_megabytes(movie: Path) -> float:
    """Peak resident memory of a process of its own that classifies `movie`."""
    command = [sys.executable, "-c", _PEAK, str(BUNDLE), str(movie)]
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


def main() -> None:
    """Makes the movies, measures, prints the tables and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model and short movies, to try this; not written")
    tiny = parser.parse_args().tiny
    model, rows, peaks = paper_model(tiny), [], []
    seconds, minutes = model.config.window_frames + 3, (1, 4) if tiny else (4, 120)
    with tempfile.TemporaryDirectory() as folder:
        movies = {size: Path(folder) / f"{size}.mp4" for size in SIZES}
        make_movies(seconds, {movies[size]: Coding(48, 3, *pixels) for size, pixels in SIZES.items()}, "veryfast")
        print(f"{'movie':<27}{'':<6}movie s/s  faster" + "".join(f"{name:>10}" for name in STAGES) + " overlap  drift")
        ways = {"checkpoint": checkpoint(model), "bundle": bundle(model, Path(folder) / "bundle")}
        for size, movie in movies.items():
            for row in measure(straightforward(model), ways, movie, seconds):
                rows.append({"movie": size, **row})
                show(size, row)
        minute = Path(folder) / "minute.mp4"
        make_movies(60, {minute: Coding(24, 3)}, "veryfast")
        for length in minutes:
            repeat(minute, movie := Path(folder) / f"{length}.mp4", length)
            peaks.append({"minutes": length, "peak_megabytes": round(peak_megabytes(movie), 1)})
    ratio = peaks[1]["peak_megabytes"] / peaks[0]["peak_megabytes"]
    print("peak memory:", ", ".join("{peak_megabytes} MB for {minutes} minutes".format(**peak) for peak in peaks))
    if not tiny:
        result = {"machine": machine(torch=torch.__version__), "rows": rows, "memory": peaks, "memory_ratio": ratio}
        save("pipeline", {"description": __doc__, **result})


if __name__ == "__main__":
    main()
