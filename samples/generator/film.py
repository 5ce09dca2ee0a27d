"""Rendering of scripts to pictures and to movie files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from samples.generator import door, places
from samples.generator.canvas import HEIGHT, WIDTH, Canvas
from samples.generator.characters import Pose, draw
from samples.generator.scenes import CHARACTERS, Card, DoorScene, Passing, Scene, Script

_STEPS_PER_SECOND = 1.6

Span = tuple[float, float]
"""Start and end of a part of a movie, in seconds."""


@dataclass(frozen=True)
class Format:
    """Format of a movie file.

    Attributes:
        fps: Frames per second.
        width: Width of the picture in pixels, even.
        height: Height of the picture in pixels, even.
        codec: Name of an encoder in FFmpeg.
    """

    fps: int = 24
    width: int = 320
    height: int = 180
    codec: str = "libx264"


def render(script: Script, form: Format, *spans: Span) -> Iterator[np.ndarray]:
    """Yields frames uint8 [height, width, 3] RGB of the spans in the given order, or of the whole movie.

    Frame i of a span shows the moment ``start + i / fps``. The picture at a moment does not depend on the frame rate: a
    movie at 1 frame/s has every 24th frame of the same movie at 24 frames/s.

    Args:
        script: Movie to render.
        form: Format of the frames.
        *spans: Parts of the movie, in seconds.
    """
    scene: Scene | None = None
    for start, end in spans or ((0.0, script.duration),):
        for index in range(round((end - start) * form.fps)):
            seconds = start + index / form.fps
            current = script.scene_at(seconds)
            if current is not scene:
                scene, still = current, _still(current, form.width, form.height)
            canvas = still.copy()
            _animate(canvas, scene, seconds - scene.start)
            yield canvas.to_array()


def write(script: Script, path: Path, form: Format, *spans: Span) -> None:
    """Writes the frames of `render` to `path`, whose suffix selects the container.

    Equal scripts and formats give equal bytes. The file appears whole or not at all.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with av.open(str(partial), "w") as container:
            # Rounding in x264's fast paths depends on the alignment of memory and on the processor; this disables them.
            options = {"crf": "26", "preset": "veryfast", "x264-params": "cpu-independent=1"}
            stream = cast(av.VideoStream, container.add_stream(form.codec, rate=form.fps, options=options))
            stream.width, stream.height, stream.pix_fmt = form.width, form.height, "yuv420p"
            stream.codec_context.thread_count = 1  # the bytes depend on the number of threads
            for index, picture in enumerate(render(script, form, *spans)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, form.fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _still(scene: Scene, width: int, height: int) -> Canvas:
    """Paints the part of a scene that does not move."""
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
    """Draws the part of a scene that moves, `seconds` after the scene began."""
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
