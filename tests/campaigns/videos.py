"""Damaged movies: a reader or `vis4mer run` returns an answer or one line, never a crash, a hang or a traceback.

Every mutation of every container is read in a process of its own, at most two minutes of video in all. A failure is a
signal, a run of more than 60 s, more than 1 GB of memory, an exception that is not of this project, or for `vis4mer
run` an exit status other than 0 and 1 or more than one error line.

    python -m tests.campaigns.videos                    # all containers, 1,000 mutations each, reader and run
    python -m tests.campaigns.videos --containers ts --count 50 --through run
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.campaigns.campaign import HANG_SECONDS, Trial, failure, finish, in_processes, parser, table
from tests.campaigns.isolation import isolated
from tests.campaigns.mutation import mutate
from vis4mer.cli.main import main as command
from vis4mer.config import Preprocessing
from vis4mer.errors import Vis4merError
from vis4mer.runtime.backends.onnx import import_onnxruntime
from vis4mer.video.reader import open_video


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


def attempt(way: str, container: str, data: bytes, seed: int, folder: Path) -> Trial:
    """Tries one mutation."""
    path = folder / f"{container}-{seed}{CONTAINERS[container].suffix}"
    path.write_bytes(mutate(data, seed))
    try:
        ending = isolated(lambda: WAYS[way](path), HANG_SECONDS, folder)
    finally:
        path.unlink()
    return Trial(
        row=(way, container, CONTAINERS[container].codec),
        name=f"seed {seed}",
        outcome="refused" if ending.status else "read",
        problem=failure(ending, command=way == "run"),
        seconds=ending.seconds,
        peak_bytes=ending.peak_bytes,
    )


@dataclass(frozen=True)
class Share:
    """A share of the campaign for one process: some mutations of one container."""

    way: str
    container: str
    data: bytes
    seeds: range


def work(share: Share) -> list[Trial]:
    """Tries a share."""
    with tempfile.TemporaryDirectory() as folder:
        return [attempt(share.way, share.container, share.data, seed, Path(folder)) for seed in share.seeds]


def campaign(ways: Sequence[str], containers: Sequence[str], count: int, jobs: int) -> Iterator[Trial]:
    """Tries the first `count` mutations of each container in each way."""
    import_onnxruntime()  # once, before the processes are forked
    with tempfile.TemporaryDirectory() as folder:
        movies = {
            name: encode(CONTAINERS[name], Path(folder) / f"movie{CONTAINERS[name].suffix}") for name in containers
        }
    seeds_at_once = 25
    shares = [
        Share(way, name, movies[name], range(first, min(first + seeds_at_once, count)))
        for way in ways
        for name in containers
        for first in range(0, count, seeds_at_once)
    ]
    return in_processes(work, shares, count * len(ways) * len(containers), jobs)


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    options_of = parser(__doc__)
    options_of.add_argument("--count", type=int, default=1000, help="mutations of each container")
    options_of.add_argument("--containers", nargs="+", choices=CONTAINERS, default=list(CONTAINERS))
    options_of.add_argument("--through", nargs="+", choices=WAYS, default=list(WAYS))
    options_of.add_argument("--jobs", type=int, default=2, help="processes at once")
    options = options_of.parse_args()
    trials = campaign(options.through, options.containers, options.count, options.jobs)
    rows = table(("through", "container", "codec"), ("read", "refused"), trials)
    sys.exit(finish("videos", __doc__, rows, options.output))


if __name__ == "__main__":
    main()
