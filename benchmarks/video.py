"""Planned decoding of sampled frames against decoding every frame.

    python -m benchmarks.video [--device cuda]

The movies are made here: 90 s of 640 x 360 at 24 frames/s, H.264 (x264, preset medium, CRF 23, scene cuts off), shots
of 6 s in which a textured scene pans and brightens under film grain and shapes move across. The GOP length and the
number of B-frames vary. Both readers sample one frame per second and return the same pixels; they differ in the packets
that they send to the video decoder. "decoding" opens, indexes, demuxes and decodes. "reading" also converts the sampled
frames to RGB and resizes them to 224 x 224, which costs both readers the same. Runs alternate; each ratio is the median
over pairs. The ratio of CPU time counts all threads. Writes results/video.json.

Without B-frames, the ratio at one frame per second is bounded by the GOP: a sampled frame needs every frame before it
in its GOP.

On a GPU, DALI is compared with PyAV instead, from the file to the frames that an encoder takes: movies of 30 s, 360p,
1080p and 2160p, H.264 with GOPs of 48 frames and 3 B-frames, one frame per second and every frame. DALI's frames stay
on the GPU, PyAV's on the host. Runs alternate after one that does not count; figures are medians. The file name of the
result includes the GPU's name.
"""

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.baselines.every_packet import DecodeEverything
from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.timing import medians
from benchmarks.movies.textured import RATE, Coding, make_movies
from vis4mer.config import DecoderName, Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device
from vis4mer.video import open_video
from vis4mer.video.frames import Damage
from vis4mer.video.movie import scan
from vis4mer.video.pyav import PyAVReader


class Size(NamedTuple):
    """Extent of the measurement.

    Attributes:
        seconds: Length of a movie.
        gops: GOP lengths, in frames.
        b_frames: Numbers of consecutive B-frames.
        pairs: Alternating pairs of runs.
    """

    seconds: int = 90
    gops: tuple[int, ...] = (12, 48, 250)
    b_frames: tuple[int, ...] = (0, 3)
    pairs: int = 7


TINY = Size(seconds=6, gops=(48,), pairs=1)

GPU_SIZES = {"360p": (640, 360), "1080p": (1920, 1080), "2160p": (3840, 2160)}
GPU_SECONDS = 30
GPU_RATES = (1.0, float(RATE))  # sampled frames per second of the movie


class Cost(NamedTuple):
    """Cost of one run.

    Attributes:
        wall: Elapsed seconds.
        cpu: Seconds of all threads, which other programs on the same cores affect less.
    """

    wall: float
    cpu: float


def _cost(run: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def _ratios(everything: Callable[[], object], planned: Callable[[], object], pairs: int) -> dict[str, float]:
    """Returns how many times faster `planned` is, by the clock."""
    costs = [(_cost(everything), _cost(planned)) for _ in range(pairs)]
    return {
        clock: round(statistics.median(getattr(slow, clock) / getattr(fast, clock) for slow, fast in costs), 2)
        for clock in Cost._fields
    }


def measure(path: Path, pairs: int) -> dict[str, Any]:
    """Compares both readers on one movie: decoding alone, and from the file to resized frames."""

    def reader(kind: type[PyAVReader]) -> PyAVReader:
        return kind(scan(path), Preprocessing(), reason="benchmark")

    def decode(kind: type[PyAVReader]) -> None:
        deque(reader(kind)._planned_frames(Damage()), maxlen=0)

    def read(kind: type[PyAVReader]) -> np.ndarray:
        return np.concatenate([on_host(batch.frames) for batch in reader(kind)])

    if not np.array_equal(read(PyAVReader), read(DecodeEverything)):
        raise SystemExit(f"error: {path}: planned decoding returns other frames than decoding everything")
    send = reader(PyAVReader)._plan.send
    return {
        "packets": len(send),
        "packets_sent": int(send.sum()),
        "decoding": _ratios(lambda: decode(DecodeEverything), lambda: decode(PyAVReader), pairs),
        "reading": _ratios(lambda: read(DecodeEverything), lambda: read(PyAVReader), pairs),
    }


def read_movie(path: Path, decoder: DecoderName, fps: float) -> int:
    """Reads a movie to frames on the first GPU, or on the host with PyAV; returns the number of frames.

    Raises:
        DeviceError: DALI cannot use the GPU.
        VideoError: DALI cannot decode the movie.
    """
    device = Device("cuda")
    with open_video(path, Preprocessing(fps=fps), video_decoder=decoder, device=device) as reader:
        frames = sum(len(batch.pts_seconds) for batch in reader)
    if decoder == "dali":
        import torch

        torch.cuda.synchronize(device.index)  # the last frames may still be resized
    return frames


def measure_on_gpu(movies: Mapping[str, Path], rates: Sequence[float], repeats: int = 3) -> list[dict[str, Any]]:
    """Returns a row for each movie, rate of sampling and video decoder."""
    decoders: tuple[DecoderName, ...] = ("pyav", "dali")
    rows: list[dict[str, Any]] = []
    for (name, path), fps in progress(list(product(movies.items(), rates)), lambda case: f"{case[0][0]}, {case[1]:g}"):
        frames = read_movie(path, "pyav", fps)
        seconds = medians({decoder: partial(read_movie, path, decoder, fps) for decoder in decoders}, repeats)
        for decoder in decoders:
            speed, ratio = frames / seconds[decoder], seconds["pyav"] / seconds[decoder]
            rows.append(
                {
                    "movie": name,
                    "sampled_per_second": fps,
                    "decoder": decoder,
                    "frames_per_second": speed,
                    "times_pyav": ratio,
                }
            )
            show(f"{name:<6} {fps:>4g} per second  {decoder:<5} {speed:10.1f} frames/s {ratio:8.2f}x")
    return rows


def run_on_gpu(options: argparse.Namespace) -> Result:
    """Makes a movie of each size and compares both video decoders on it."""
    sizes = {"360p": GPU_SIZES["360p"]} if options.tiny else GPU_SIZES
    with tempfile.TemporaryDirectory() as folder:
        movies = {size: Path(folder) / f"{size}.mp4" for size in sizes}
        codings = {movies[size]: Coding(48, 3, *pixels) for size, pixels in sizes.items()}
        make_movies(TINY.seconds if options.tiny else GPU_SECONDS, codings, "veryfast")
        return {"rows": measure_on_gpu(movies, GPU_RATES)}


def run(options: argparse.Namespace) -> Result:
    """Makes and measures a movie for each GOP length and number of B-frames."""
    if options.device == "cuda":
        return run_on_gpu(options)
    size = TINY if options.tiny else Size()
    codings = [Coding(gop, b_frames) for gop, b_frames in product(size.gops, size.b_frames)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        movies = {Path(folder) / f"{coding.gop}-{coding.b_frames}.mp4": coding for coding in codings}
        make_movies(size.seconds, movies)
        header = "".join(f"{title:>16}" for title in ("decoding: wall", "CPU", "reading: wall", "CPU"))
        show(f"{'GOP':>4} {'B-frames':>9} {'packets sent':>14}{header}")
        for path, coding in progress(movies.items(), lambda movie: movie[0].stem):
            row = {"gop": coding.gop, "b_frames": coding.b_frames, **measure(path, size.pairs)}
            rows.append(row)
            ratios = "".join(f"{row[part][clock]:15.2f}x" for part in ("decoding", "reading") for clock in Cost._fields)
            sent = f"{row['packets_sent']} of {row['packets']}"
            show(f"{coding.gop:>4} {coding.b_frames:>9} {sent:>14}{ratios}")
    return {"pairs": size.pairs, "rows": rows}


BENCHMARK = Benchmark("video", __doc__, run, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
