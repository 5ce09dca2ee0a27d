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
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from vis4mer.config import Preprocessing
from vis4mer.video.movie import scan
from vis4mer.video.planner import DecodePlan
from vis4mer.video.pyav import PyAVReader

SECONDS, RATE, WIDTH, HEIGHT, SHOT_SECONDS = 90, 24, 640, 360, 6
GOPS, B_FRAMES, PAIRS = (12, 48, 250), (0, 3), 7


class DecodeEverything(PyAVReader):
    """The baseline: every packet goes to the video decoder, frames nobody wants are dropped afterwards."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        packets = len(self._plan.send)
        self._plan = DecodePlan(np.ones(packets, bool), np.arange(packets) == packets - 1)


def make_movies(folder: Path) -> dict[tuple[int, int], Path]:
    """Draws the movie described above and encodes it with every GOP length and number of B-frames."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 2, (16, HEIGHT, WIDTH, 1)).astype(np.float32)
    paths = {(gop, b_frames): folder / f"{gop}-{b_frames}.mp4" for gop in GOPS for b_frames in B_FRAMES}
    with ExitStack() as stack:
        outputs = []
        for (gop, b_frames), path in paths.items():
            container = stack.enter_context(av.open(str(path), "w"))
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            x264 = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}"
            stream.options = {"preset": "medium", "crf": "23", "x264-params": x264}
            outputs.append((container, stream))
        for i in range(SECONDS * RATE):
            t = i % (SHOT_SECONDS * RATE)
            if t == 0:
                scene, shapes = _scene(rng), rng.integers(0, 256, (8, 3), dtype=np.uint8)
            picture = _draw(scene, shapes, t, grain[i % len(grain)])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            for container, stream in outputs:
                container.mux(stream.encode(frame))
        for container, stream in outputs:
            container.mux(stream.encode(None))
    return paths


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise on three scales, wider than the picture so that it can pan."""
    scene = np.full((HEIGHT, 2 * WIDTH, 3), 110, np.float32)
    for cells, strength in ((4, 90), (15, 50), (60, 25)):
        noise = rng.uniform(-strength, strength, (cells, 2 * cells, 3)) + 110
        small = av.VideoFrame.from_ndarray(noise.clip(0, 255).astype(np.uint8), format="rgb24")
        scene += small.reformat(2 * WIDTH, HEIGHT, interpolation="BICUBIC").to_ndarray() - np.float32(110)
    return scene


def _draw(scene: np.ndarray, shapes: np.ndarray, t: int, grain: np.ndarray) -> np.ndarray:
    image = scene[:, 2 * t : 2 * t + WIDTH] + np.float32(t / 12)
    for k, colour in enumerate(shapes):
        top, left = (40 * k + (k - 3) * t) % (HEIGHT - 50), (90 * k + (2 * k + 1) * t) % (WIDTH - 60)
        image[top : top + 50, left : left + 60] = colour
    return (image + grain).clip(0, 255).astype(np.uint8)


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
        for (gop, b_frames), path in make_movies(Path(folder)).items():
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
