"""How much faster the planned decoding of sampled frames is than decoding everything.

    python benchmarks/video.py

Movies are made here: 90 s of 640 x 360 at 24 frames/s, H.264 (x264, preset medium, CRF 23, scene cuts off), shots of
6 s in which a textured scene pans and brightens under film grain and shapes move across. The GOP length and the number
of B-frames vary. Both ways sample one frame a second and give the same pixels; they differ in what the video decoder is
sent. "Decoding" opens, indexes, demuxes and decodes; "reading" also converts the sampled frames to RGB and resizes them
to 224 x 224, which costs both ways the same. Runs alternate; each ratio is the median over pairs. The ratio of CPU time
counts all threads. Writes results/video.json.

Without B-frames the ratio at one frame a second is bounded by the GOP: a wanted frame needs every frame before it in
its GOP.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from movies import Coding, make_movies
from rich.console import Console
from rich.table import Table

from vis4mer.config import Preprocessing
from vis4mer.video.movie import scan
from vis4mer.video.planner import DecodePlan
from vis4mer.video.pyav import PyAVReader

SECONDS, GOPS, B_FRAMES, PAIRS = 90, (12, 48, 250), (0, 3), 7


class DecodeEverything(PyAVReader):
    """The baseline: every packet goes to the video decoder, frames nobody wants are dropped afterwards."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        packets = len(self._plan.send)
        self._plan = DecodePlan(np.ones(packets, bool), np.arange(packets) == packets - 1)


class Cost(NamedTuple):
    """Seconds of one run."""

    wall: float
    cpu: float  # of all threads: what is left when other programs share the cores


def _cost(run: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def _ratios(everything: Callable[[], object], planned: Callable[[], object]) -> dict[str, float]:
    pairs = [(_cost(everything), _cost(planned)) for _ in range(PAIRS)]
    return {
        clock: round(statistics.median(getattr(a, clock) / getattr(b, clock) for a, b in pairs), 2)
        for clock in Cost._fields
    }


def measure(path: Path) -> dict[str, Any]:
    """Compares both ways, decoding alone and from the file's name to resized frames."""

    def reader(kind: type[PyAVReader]) -> PyAVReader:
        return kind(scan(path), Preprocessing(), reason="benchmark")

    def decode(kind: type[PyAVReader]) -> None:
        deque(reader(kind)._planned_frames(), maxlen=0)

    def read(kind: type[PyAVReader]) -> np.ndarray:
        return np.concatenate([batch.frames for batch in reader(kind)])

    if not np.array_equal(read(PyAVReader), read(DecodeEverything)):
        raise SystemExit(f"{path}: planned decoding gives other frames than decoding everything")
    send = reader(PyAVReader)._plan.send
    return {
        "packets": len(send),
        "packets_sent": int(send.sum()),
        "decoding": _ratios(lambda: decode(DecodeEverything), lambda: decode(PyAVReader)),
        "reading": _ratios(lambda: read(DecodeEverything), lambda: read(PyAVReader)),
    }


def main() -> None:
    """Prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "video.json")
    output = parser.parse_args().output
    table = Table("GOP", "B-frames", "packets sent", "decoding: wall", "CPU", "reading: wall", "CPU")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        movies = {Path(folder) / f"{gop}-{b}.mp4": Coding(gop, b) for gop in GOPS for b in B_FRAMES}
        make_movies(SECONDS, movies)
        for path, (gop, b_frames, *_) in movies.items():
            row = {"gop": gop, "b_frames": b_frames, **measure(path)}
            rows.append(row)
            ratios = [f"{row[part][clock]:.2f}x" for part in ("decoding", "reading") for clock in Cost._fields]
            table.add_row(str(gop), str(b_frames), f"{row['packets_sent']} of {row['packets']}", *ratios)
    Console().print(table)
    report = {"description": " ".join((__doc__ or "").split()), "pairs": PAIRS, "rows": rows}
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
