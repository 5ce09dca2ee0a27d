"""Damaged movies: a reader or `vis4mer run` returns an answer or one line, never a crash, a hang or a traceback.

Every mutation of every container is read in a process of its own, at most two minutes of video in all. A failure is a
signal, a run of more than 60 s, more than 1 GB of memory, an exception that is not of this project, or for `vis4mer
run` an exit status other than 0 and 1 or more than one error line.

    python -m tests.campaigns.videos                    # all containers, 1,000 mutations each, reader and run
    python -m tests.campaigns.videos --containers ts --count 50 --through run
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.campaigns.isolation import Ending, isolated
from tests.campaigns.mutation import mutate
from vis4mer.cli.main import main as command
from vis4mer.config import Preprocessing
from vis4mer.errors import Vis4merError
from vis4mer.runtime.backends.onnx import import_onnxruntime
from vis4mer.video.reader import open_video

HANG_SECONDS, MOST_BYTES = 60, 1_000_000_000
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Container:
    """How the undamaged movie of one container is encoded."""

    codec: str
    suffix: str
    pixel_format: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()


_FAST = (("preset", "veryfast"), ("g", "12"))
CONTAINERS = {
    "mp4": Container("libx264", ".mp4", options=_FAST),
    "mkv": Container("libx265", ".mkv", options=(("preset", "ultrafast"), ("x265-params", "log-level=none:keyint=12"))),
    "ts": Container("libx264", ".ts", options=_FAST),
    "webm": Container("libvpx-vp9", ".webm", options=(("deadline", "realtime"), ("cpu-used", "8"))),
    "avi": Container("mpeg4", ".avi"),
    "mov": Container("prores_ks", ".mov", "yuv422p10le"),
    "av1": Container("libsvtav1", ".mp4", options=(("preset", "12"), ("svtav1-params", "keyint=24"))),
    "gif": Container("gif", ".gif", "rgb8"),
}


def encode(container: Container, path: Path, frames: int = 48) -> bytes:
    """Encodes a short moving pattern and returns the file's bytes."""
    y, x = np.mgrid[:64, :96]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(container.codec, rate=12, options=dict(container.options))
        stream.width, stream.height, stream.pix_fmt = 96, 64, container.pixel_format
        stream.codec_context.thread_count = 1
        for number in range(frames):
            waves = [np.sin((x + speed * number) / 9 + y / 7) * 100 + 120 for speed in (1, 2, 3)]
            frame = av.VideoFrame.from_ndarray(np.stack(waves, -1).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 12)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path.read_bytes()


def read(path: Path) -> int:
    """Reads a movie through the reader; 0 with frames, 1 with one of this project's errors."""
    try:
        with open_video(path, Preprocessing(fps=4.0, height=32, width=32)) as reader:
            for _ in reader:
                pass
    except Vis4merError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(path: Path) -> int:
    """Classifies a movie through `vis4mer run` with the sample bundle and returns its exit status."""
    try:
        command(["run", str(path), "--output-format", "json"], prog_name="vis4mer")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


WAYS: dict[str, Callable[[Path], int]] = {"reader": read, "run": run}


def failure(ending: Ending, way: str) -> str:
    """Returns why an ending is a failure, or an empty string."""
    if ending.timed_out:
        return f"runs for more than {HANG_SECONDS} s"
    if ending.signal:
        return f"ended by {ending.signal}"
    if ending.status not in (0, 1):
        return f"exit status {ending.status}: {ending.stderr.strip().splitlines()[-1:]}"
    if ending.peak_bytes > MOST_BYTES:
        return f"takes {ending.peak_bytes / 1e6:.0f} MB"
    errors = [line for line in ending.stderr.splitlines() if line.startswith("vis4mer: error:")]
    if "Traceback" in ending.stderr:
        return "prints a traceback"
    if way == "run" and ending.status == 1 and len(errors) != 1:
        return f"prints {len(errors)} error lines"
    return ""


def attempt(way: str, container: str, data: bytes, seed: int, folder: Path) -> tuple[str, float, int]:
    """Tries one mutation.

    Returns:
        ``read``, ``refused`` or why it is a failure; seconds; and the peak memory in bytes.
    """
    path = folder / f"{container}-{seed}{CONTAINERS[container].suffix}"
    path.write_bytes(mutate(data, seed))
    try:
        ending = isolated(lambda: WAYS[way](path), HANG_SECONDS, folder)
    finally:
        path.unlink()
    why = failure(ending, way)
    return why or ("refused" if ending.status else "read"), ending.seconds, ending.peak_bytes


@dataclass(frozen=True)
class Task:
    """A share of the campaign for one process: some mutations of one container."""

    way: str
    container: str
    data: bytes
    seeds: range


def work(task: Task) -> list[tuple[str, str, int, str, float, int]]:
    """Tries a share; returns way, container, seed, outcome, seconds and peak bytes of each mutation."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            (task.way, task.container, seed, *attempt(task.way, task.container, task.data, seed, Path(folder)))
            for seed in task.seeds
        ]


def campaign(ways: Sequence[str], containers: Sequence[str], count: int, jobs: int) -> list[dict[str, Any]]:
    """Runs the campaign and returns a row for each way and container."""
    import_onnxruntime()  # once, before the processes are forked
    with tempfile.TemporaryDirectory() as folder:
        movies = {
            name: encode(CONTAINERS[name], Path(folder) / f"movie{CONTAINERS[name].suffix}") for name in containers
        }
    share = 25  # seeds of a task: small enough that progress is shown often
    tasks = [
        Task(way, name, movies[name], range(first, min(first + share, count)))
        for way in ways
        for name in containers
        for first in range(0, count, share)
    ]
    outcomes: dict[tuple[str, str], Counter[str]] = {(way, name): Counter() for way in ways for name in containers}
    slowest = dict.fromkeys(outcomes, 0.0)
    largest = dict.fromkeys(outcomes, 0)
    failures: dict[tuple[str, str], list[str]] = {key: [] for key in outcomes}
    started, done, total = time.monotonic(), 0, count * len(ways) * len(containers)
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for results in pool.imap_unordered(work, tasks):
            for way, name, seed, outcome, seconds, peak in results:
                key = (way, name)
                known = outcome in ("read", "refused")
                outcomes[key][outcome if known else "failed"] += 1
                if not known:
                    failures[key].append(f"seed {seed}: {outcome}")
                slowest[key] = max(slowest[key], seconds)
                largest[key] = max(largest[key], peak)
            done += len(results)
            left = (time.monotonic() - started) / done * (total - done)
            print(f"{done} of {total}, {left:.0f} s left", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [
        {
            "through": way,
            "container": name,
            "codec": CONTAINERS[name].codec,
            "tried": counts.total(),
            "read": counts["read"],
            "refused": counts["refused"],
            "failed": counts["failed"],
            "slowest_seconds": round(slowest[way, name], 2),
            "peak_megabytes": round(largest[way, name] / 1e6),
            "failures": sorted(failures[way, name]),
        }
        for (way, name), counts in outcomes.items()
    ]


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="mutations of each container")
    parser.add_argument("--containers", nargs="+", choices=CONTAINERS, default=list(CONTAINERS))
    parser.add_argument("--through", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    rows = campaign(options.through, options.containers, options.count, options.jobs)
    print(f"{'through':<8} {'container':<10} {'tried':>6} {'read':>6} {'refused':>8} {'failed':>7} {'s':>6} {'MB':>5}")
    for row in rows:
        print(
            f"{row['through']:<8} {row['container']:<10} {row['tried']:>6} {row['read']:>6} {row['refused']:>8} "
            f"{row['failed']:>7} {row['slowest_seconds']:>6} {row['peak_megabytes']:>5}"
        )
        for line in row["failures"]:
            print(f"    {line}")
    if options.output:
        options.output.write_text(json.dumps({"description": __doc__, "rows": rows}, indent=2) + "\n")
    sys.exit(any(row["failed"] for row in rows))


if __name__ == "__main__":
    main()
