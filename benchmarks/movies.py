"""Movies made for measuring: textured scenes that pan and brighten under film grain, with shapes moving across."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

RATE, SHOT_SECONDS = 24, 6
_WIDTH, _HEIGHT = 640, 360  # as drawn; other sizes are scaled from it


class Coding(NamedTuple):
    """How a movie is compressed: H.264 by x264, preset medium, CRF 23, scene cuts off."""

    gop: int
    b_frames: int
    width: int = _WIDTH
    height: int = _HEIGHT


def make_movies(seconds: int, movies: Mapping[Path, Coding], preset: str = "medium") -> None:
    """Draws one movie and writes it to several files.

    Args:
        seconds: its length.
        movies: the files and how to compress each.
        preset: x264's.
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
        for i, picture in enumerate(_pictures(seconds)):
            drawn = av.VideoFrame.from_ndarray(picture, format="rgb24")
            for container, stream in outputs:
                frame = drawn.reformat(stream.width, stream.height, "yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        for container, stream in outputs:
            container.mux(stream.encode(None))


def repeat(source: Path, path: Path, times: int) -> None:
    """Writes a movie that shows another one several times: its packets again, with later timestamps."""
    with av.open(str(path), "w") as target:
        for turn in range(times):
            with av.open(str(source)) as movie:
                (stream,) = movie.streams.video
                if turn == 0:
                    copy = target.add_stream_from_template(stream)
                shift = turn * stream.duration
                for packet in movie.demux(stream):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                        target.mux(packet)


def _pictures(seconds: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3], `RATE` a second."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 2, (16, _HEIGHT, _WIDTH, 1)).astype(np.float32)
    for i in range(seconds * RATE):
        t = i % (SHOT_SECONDS * RATE)
        if t == 0:
            scene, shapes = _scene(rng), rng.integers(0, 256, (8, 3), dtype=np.uint8)
        yield _draw(scene, shapes, t, grain[i % len(grain)])


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise on three scales, wider than the picture so that it can pan."""
    scene = np.full((_HEIGHT, 2 * _WIDTH, 3), 110, np.float32)
    for cells, strength in ((4, 90), (15, 50), (60, 25)):
        noise = rng.uniform(-strength, strength, (cells, 2 * cells, 3)) + 110
        small = av.VideoFrame.from_ndarray(noise.clip(0, 255).astype(np.uint8), format="rgb24")
        scene += small.reformat(2 * _WIDTH, _HEIGHT, interpolation="BICUBIC").to_ndarray() - np.float32(110)
    return scene


def _draw(scene: np.ndarray, shapes: np.ndarray, t: int, grain: np.ndarray) -> np.ndarray:
    image = scene[:, 2 * t : 2 * t + _WIDTH] + np.float32(t / 12)
    for k, colour in enumerate(shapes):
        top, left = (40 * k + (k - 3) * t) % (_HEIGHT - 50), (90 * k + (2 * k + 1) * t) % (_WIDTH - 60)
        image[top : top + 50, left : left + 60] = colour
    return (image + grain).clip(0, 255).astype(np.uint8)
