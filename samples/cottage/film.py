"""From a tale to pictures, and from pictures to a movie file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from cottage import door, places
from cottage.canvas import HEIGHT, WIDTH, Canvas
from cottage.characters import Pose, draw
from cottage.scenes import CHARACTERS, Card, DoorScene, Passing, Scene, Tale

_STEPS_PER_SECOND = 1.6

Span = tuple[float, float]
"""Start and end of a part of a tale, in its seconds."""


@dataclass(frozen=True)
class Format:
    """How a movie is filmed.

    Attributes:
        fps: frames a second.
        width: of the picture, in pixels, even.
        height: of the picture, in pixels, even.
        codec: FFmpeg's name of an encoder.
    """

    fps: int = 24
    width: int = 320
    height: int = 180
    codec: str = "libx264"


def render(tale: Tale, form: Format, *spans: Span) -> Iterator[np.ndarray]:
    """Yields frames, uint8 [height, width, 3] RGB, of the given spans one after the other, or of the whole tale.

    Frame i of a span shows the moment ``start + i / fps``. The picture at a moment does not depend on the frame rate: a
    movie at 1 frame/s is every 24th frame of the one at 24 frames/s.
    """
    scene: Scene | None = None
    for start, end in spans or ((0.0, tale.duration),):
        for index in range(round((end - start) * form.fps)):
            seconds = start + index / form.fps
            current = tale.scene_at(seconds)
            if current is not scene:
                scene, still = current, _still(current, form.width, form.height)
            canvas = still.copy()
            _animate(canvas, scene, seconds - scene.start)
            yield canvas.to_array()


def write(tale: Tale, path: Path, form: Format, *spans: Span) -> None:
    """Writes what `render` gives to `path`, whose suffix picks the container.

    The same tale and format give the same bytes. The file appears whole or not at all.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with av.open(str(partial), "w") as container:
            # x264's fast paths round as the memory's alignment and the processor have it; these options forgo them.
            options = {"crf": "26", "preset": "veryfast", "x264-params": "cpu-independent=1"}
            stream = cast(av.VideoStream, container.add_stream(form.codec, rate=form.fps, options=options))
            stream.width, stream.height, stream.pix_fmt = form.width, form.height, "yuv420p"
            stream.codec_context.thread_count = 1  # the bytes depend on it
            for index, picture in enumerate(render(tale, form, *spans)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, form.fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _still(scene: Scene, width: int, height: int) -> Canvas:
    match scene:
        case Card():
            canvas = Canvas.blank(width, height, (46, 38, 62))
            canvas.text(WIDTH / 2, HEIGHT * 0.3, scene.text, 26, (250, 240, 220))
            return canvas
        case DoorScene():
            return door.facade(width, height)
        case Passing():
            return places.background(scene.place, scene.decor, width, height)


def _animate(canvas: Canvas, scene: Scene, seconds: float) -> None:
    match scene:
        case Card():
            for index, character in enumerate(CHARACTERS):
                step = seconds * _STEPS_PER_SECOND + index / 4
                draw(canvas, character, Pose(70 + 60 * index, 155, 60, 0, step))
        case DoorScene():
            door.act(canvas, scene, scene.entry + seconds)
        case Passing():
            places.animate(scene.place, scene.decor, canvas, seconds)
            share = seconds / (scene.end - scene.start)
            for walk in scene.walks:
                x = (walk.x0 + (walk.x1 - walk.x0) * share) * WIDTH
                y = HEIGHT * (0.66 + 0.5 * (walk.height - 0.3) + 0.12)
                facing = 1 if walk.x1 > walk.x0 else -1
                step = seconds * _STEPS_PER_SECOND + walk.phase
                draw(canvas, walk.character, Pose(x, y, walk.height * HEIGHT, facing, step))
