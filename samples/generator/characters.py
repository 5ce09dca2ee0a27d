"""The four characters, each with its own shape and colour, all on two legs."""

import math
from typing import NamedTuple

from samples.generator.canvas import Canvas, Colour, blend
from samples.generator.scenes import Character

COLOURS: dict[Character, Colour] = {
    "poppy": (226, 54, 58),
    "bolt": (44, 92, 222),
    "sunny": (250, 200, 30),
    "fern": (40, 165, 80),
}
_INK: Colour = (38, 30, 46)
_WHITE: Colour = (255, 255, 255)


class Pose(NamedTuple):
    """Position and posture of a character.

    Attributes:
        x: Middle of the feet, in drawing units.
        y: Ground under the feet, in drawing units.
        height: Height from feet to head, in drawing units.
        facing: Direction: -1 for left, 0 for the viewer, 1 for right.
        step: Cycles of the walk so far; the fraction is the phase of the legs. None means standing still.
        wave: Cycles of the waving hand so far. None keeps the hand down.
    """

    x: float
    y: float
    height: float
    facing: float = 0
    step: float | None = None
    wave: float | None = None


def draw(canvas: Canvas, character: Character, pose: Pose) -> None:
    """Draws the character on the canvas."""
    size = pose.height
    swing = math.sin(2 * math.pi * pose.step) if pose.step is not None else 0.0
    hop = abs(math.cos(2 * math.pi * pose.step)) * 0.05 * size if pose.step is not None else 0.0
    colour = COLOURS[character]
    dark = blend(colour, _INK, 0.45)
    hip, middle = pose.y - 0.22 * size - hop, pose.y - 0.56 * size - hop
    canvas.ellipse(pose.x, pose.y + 0.01 * size, 0.3 * size, 0.04 * size, (70, 70, 70))
    for side in (-1, 1):
        foot = pose.x + side * 0.1 * size + side * swing * 0.13 * size
        lift = max(0.0, side * swing) * 0.06 * size
        canvas.line([(pose.x + side * 0.1 * size, hip), (foot, pose.y - lift)], 0.06 * size, dark)
        canvas.ellipse(foot + pose.facing * 0.03 * size, pose.y - lift, 0.07 * size, 0.035 * size, dark)
    _arms(canvas, pose, middle, swing, dark)
    _BODIES[character](canvas, pose.x, middle, size, colour, dark)
    _face(canvas, pose, middle + (0.08 * size if character == "sunny" else 0))


def _arms(canvas: Canvas, pose: Pose, middle: float, swing: float, colour: Colour) -> None:
    size = pose.height
    shoulder = 0.24 * size
    hand = (pose.x - shoulder - 0.12 * size, middle + 0.16 * size - 0.08 * swing * size)
    canvas.line([(pose.x - shoulder, middle), hand], 0.05 * size, colour)
    other = (pose.x + shoulder + 0.12 * size, middle + 0.16 * size + 0.08 * swing * size)
    if pose.wave is not None:
        sway = 0.09 * math.sin(2 * math.pi * pose.wave)
        other = (pose.x + shoulder + (0.14 + sway) * size, middle - 0.24 * size)
    canvas.line([(pose.x + shoulder, middle), other], 0.05 * size, colour)


def _face(canvas: Canvas, pose: Pose, y: float) -> None:
    size = pose.height
    x = pose.x + pose.facing * 0.09 * size
    for side in (-1, 1):
        eye = x + side * 0.09 * size
        canvas.ellipse(eye, y - 0.06 * size, 0.07 * size, 0.085 * size, _WHITE)
        canvas.ellipse(eye + pose.facing * 0.025 * size, y - 0.05 * size, 0.033 * size, 0.045 * size, _INK)
    canvas.arc(x, y + 0.06 * size, 0.09 * size, 0.07 * size, (20, 160), _INK)


def _poppy(canvas: Canvas, x: float, y: float, size: float, colour: Colour, dark: Colour) -> None:
    canvas.line([(x, y - 0.3 * size), (x + 0.04 * size, y - 0.43 * size)], 0.03 * size, (60, 110, 50))
    canvas.ellipse(x + 0.11 * size, y - 0.42 * size, 0.08 * size, 0.04 * size, (90, 150, 70))
    canvas.ellipse(x, y, 0.35 * size, 0.35 * size, colour)
    canvas.ellipse(x - 0.14 * size, y - 0.2 * size, 0.07 * size, 0.05 * size, blend(colour, _WHITE, 0.5))


def _bolt(canvas: Canvas, x: float, y: float, size: float, colour: Colour, dark: Colour) -> None:
    canvas.line([(x, y - 0.3 * size), (x, y - 0.4 * size)], 0.03 * size, dark)
    canvas.ellipse(x, y - 0.41 * size, 0.04 * size, 0.04 * size, (250, 250, 250))
    canvas.box(x - 0.3 * size, y - 0.32 * size, x + 0.3 * size, y + 0.34 * size, colour, 0.06 * size)
    canvas.box(
        x - 0.2 * size, y - 0.2 * size, x + 0.2 * size, y + 0.17 * size, blend(colour, _WHITE, 0.25), 0.04 * size
    )
    for side in (-1, 0, 1):
        canvas.ellipse(x + side * 0.12 * size, y + 0.25 * size, 0.025 * size, 0.025 * size, _WHITE)


def _sunny(canvas: Canvas, x: float, y: float, size: float, colour: Colour, dark: Colour) -> None:
    base, tip = y + 0.34 * size, y - 0.46 * size
    canvas.polygon([(x, tip), (x + 0.42 * size, base), (x - 0.42 * size, base)], colour)
    canvas.polygon([(x, tip), (x + 0.12 * size, tip + 0.23 * size), (x - 0.12 * size, tip + 0.23 * size)], dark)
    canvas.ellipse(x, tip, 0.045 * size, 0.045 * size, _WHITE)


def _fern(canvas: Canvas, x: float, y: float, size: float, colour: Colour, dark: Colour) -> None:
    for side in (-1, 1):
        canvas.ellipse(x + side * 0.12 * size, y - 0.36 * size, 0.055 * size, 0.16 * size, colour)
        canvas.ellipse(x + side * 0.12 * size, y - 0.36 * size, 0.025 * size, 0.11 * size, (240, 170, 180))
    canvas.box(x - 0.23 * size, y - 0.3 * size, x + 0.23 * size, y + 0.36 * size, colour, 0.22 * size)
    canvas.ellipse(x, y + 0.2 * size, 0.14 * size, 0.13 * size, blend(colour, _WHITE, 0.45))


_BODIES = {"poppy": _poppy, "bolt": _bolt, "sunny": _sunny, "fern": _fern}
