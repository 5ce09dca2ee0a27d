"""Movies of textured scenes that pan and brighten under film grain, with shapes that move across."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from benchmarks.harness.progress import progress

RATE = 24  # frames per second
SHOT_SECONDS = 6
_WIDTH, _HEIGHT = 640, 360  # pixels as drawn; other sizes are scaled from it


class Coding(NamedTuple):
    """Compression of a movie: H.264 by x264, CRF 23, scene cuts off.

    Attributes:
        gop: Frames from one keyframe to the next.
        b_frames: Number of consecutive B-frames.
        width: Width in pixels, even.
        height: Height in pixels, even.
    """

    gop: int
    b_frames: int
    width: int = _WIDTH
    height: int = _HEIGHT


def make_movies(seconds: int, movies: Mapping[Path, Coding], preset: str = "medium") -> None:
    """Draws one movie and writes it to several files.

    Args:
        seconds: Length of the movie.
        movies: Compression of each file.
        preset: Preset of x264.
    """
    with ExitStack() as stack:
        outputs = []
        for path, (gop, b_frames, width, height) in movies.items():
            container = stack.enter_context(av.open(str(path), "w"))
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            x264 = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}"
            stream.options = {"preset": preset, "crf": "23", "x264-params": x264}
            outputs.append((container, stream))
        pictures = enumerate(_pictures(seconds))
        for i, picture in progress(pictures, lambda _: "drawing the movie", total=seconds * RATE):
            drawn = av.VideoFrame.from_ndarray(picture, format="rgb24")
            for container, stream in outputs:
                frame = drawn.reformat(stream.width, stream.height, "yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        for container, stream in outputs:
            container.mux(stream.encode(None))


def repeat(source: Path, path: Path, times: int) -> None:
    """Writes a movie that shows `source` several times: its packets are repeated with later timestamps."""
    with av.open(str(path), "w") as target:
        for turn in range(times):
            with av.open(str(source)) as movie:
                (stream,) = movie.streams.video
                if turn == 0:
                    copy = target.add_stream_from_template(stream)
                shift = turn * (stream.duration or 0)
                for packet in movie.demux(stream):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                        target.mux(packet)


def _pictures(seconds: int) -> Iterator[np.ndarray]:
    """Yields pictures uint8 [H, W, 3], `RATE` for each second."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 2, (16, _HEIGHT, _WIDTH, 1)).astype(np.float32)
    for i in range(seconds * RATE):
        t = i % (SHOT_SECONDS * RATE)
        if t == 0:
            scene, shapes = _scene(rng), rng.integers(0, 256, (8, 3), dtype=np.uint8)
        yield _draw(scene, shapes, t, grain[i % len(grain)])


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Returns smooth noise on three scales, float32 [H, 2 W, 3], twice as wide as the picture so that it can pan."""
    scene = np.full((_HEIGHT, 2 * _WIDTH, 3), 110, np.float32)
    for cells, strength in ((4, 90), (15, 50), (60, 25)):
        noise = rng.uniform(-strength, strength, (cells, 2 * cells, 3)) + 110
        small = av.VideoFrame.from_ndarray(noise.clip(0, 255).astype(np.uint8), format="rgb24")
        scene += small.reformat(2 * _WIDTH, _HEIGHT, interpolation="BICUBIC").to_ndarray() - np.float32(110)
    return scene


def _draw(scene: np.ndarray, shapes: np.ndarray, t: int, grain: np.ndarray) -> np.ndarray:
    """Draws frame `t` of a shot: the scene panned and brightened, a square of each colour moved on, and grain."""
    image = scene[:, 2 * t : 2 * t + _WIDTH] + np.float32(t / 12)
    for k, colour in enumerate(shapes):
        top, left = (40 * k + (k - 3) * t) % (_HEIGHT - 50), (90 * k + (2 * k + 1) * t) % (_WIDTH - 60)
        image[top : top + 50, left : left + 60] = colour
    picture: np.ndarray = (image + grain).clip(0, 255).astype(np.uint8)
    return picture
