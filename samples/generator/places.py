"""The places where characters pass by: a background painted once for a scene, and motion drawn in every frame."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from samples.generator.canvas import HEIGHT, WIDTH, Canvas, Colour, blend
from samples.generator.scenes import Place

Paint = Callable[[Canvas, np.random.Generator], None]
Animate = Callable[[Canvas, np.random.Generator, float], None]


class Scenery(NamedTuple):
    """Look of a place.

    Attributes:
        sky: Colours at the top and the bottom of the sky.
        ground: Colour of the ground.
        horizon: Edge of the ground (y), in drawing units.
        paint: Function that draws the still part.
        animate: Function that draws the moving part, from the seconds since the scene began.
    """

    sky: tuple[Colour, Colour]
    ground: Colour
    horizon: float
    paint: Paint
    animate: Animate


def background(place: Place, decor: int, width: int, height: int) -> Canvas:
    """Paints the still part of a place.

    Args:
        place: Place to paint.
        decor: Seed of the details.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """
    scenery = SCENERY[place]
    rng = np.random.default_rng(decor)
    shade = float(rng.uniform(-0.12, 0.12))
    tint: Colour = (255, 255, 255) if shade > 0 else (0, 0, 0)
    canvas = Canvas.blank(width, height, blend(scenery.ground, tint, abs(shade)))
    top, bottom = (blend(colour, tint, abs(shade)) for colour in scenery.sky)
    canvas.gradient(top, bottom, 0, scenery.horizon)
    scenery.paint(canvas, rng)
    return canvas


def animate(place: Place, decor: int, canvas: Canvas, seconds: float) -> None:
    """Draws the moving part of a place, `seconds` after the scene began."""
    SCENERY[place].animate(canvas, np.random.default_rng(decor), seconds)


def _hills(canvas: Canvas, rng: np.random.Generator, colour: Colour, horizon: float) -> None:
    for _ in range(3):
        radius = rng.uniform(60, 110)
        canvas.ellipse(rng.uniform(0, WIDTH), horizon + radius * 0.55, radius * 1.4, radius * 0.8, colour)


def _meadow(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.ellipse(rng.uniform(30, 290), rng.uniform(22, 40), 14, 14, (255, 240, 190))
    _hills(canvas, rng, (150, 185, 130), 92)
    canvas.box(0, 100, WIDTH, HEIGHT, (168, 198, 132))
    for _ in range(40):
        x, y = rng.uniform(0, WIDTH), rng.uniform(106, HEIGHT)
        canvas.line([(x, y), (x, y - 4)], 0.8, (120, 165, 100))
        canvas.ellipse(x, y - 4, 1.8, 1.8, [(250, 250, 245), (240, 190, 215), (200, 190, 240)][rng.integers(3)])


def _clouds(canvas: Canvas, rng: np.random.Generator, seconds: float) -> None:
    for _ in range(3):
        x = (rng.uniform(0, WIDTH + 80) + 5 * seconds) % (WIDTH + 80) - 40
        y = rng.uniform(14, 55)
        for dx, r in ((-13, 7), (0, 11), (13, 8)):
            canvas.ellipse(x + dx, y, r * 1.3, r * 0.8, (248, 250, 252))


def _town(canvas: Canvas, rng: np.random.Generator) -> None:
    x = -10.0
    while x < WIDTH:
        width, height = rng.uniform(38, 62), rng.uniform(50, 92)
        wall = [(214, 196, 178), (190, 186, 196), (205, 180, 170), (184, 196, 190)][rng.integers(4)]
        roof = blend(wall, (90, 70, 80), 0.6)
        canvas.polygon([(x - 3, 120 - height), (x + width / 2, 98 - height), (x + width + 3, 120 - height)], roof)
        canvas.box(x, 120 - height, x + width, 122, wall)
        for row in range(int(height // 24)):
            for column in (0.2, 0.62):
                left, top = x + column * width, 126 - height + 24 * row
                canvas.box(left, top, left + 9, top + 12, (110, 125, 150) if rng.random() < 0.7 else (250, 232, 170))
        x += width + 2
    canvas.box(0, 121, WIDTH, 128, (176, 172, 170))
    for x in range(10, 320, 44):
        canvas.box(x, 152, x + 20, 154.5, (208, 206, 200))


def _birds(canvas: Canvas, rng: np.random.Generator, seconds: float) -> None:
    for start, y, speed in rng.uniform((0, 8, 16), (WIDTH, 40, 26), size=(4, 3)):
        x, wing = (start + speed * seconds) % WIDTH, 3 * math.sin(9 * seconds + start)
        canvas.line([(x - 5, y - wing), (x, y), (x + 5, y - wing)], 1.2, (78, 76, 92))


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.ellipse(rng.uniform(40, 280), rng.uniform(20, 36), 13, 13, (255, 246, 214))
    canvas.gradient((98, 168, 190), (150, 205, 214), 78, 112)
    x = rng.uniform(30, 290)
    canvas.line([(x, 150), (x + 6, 110), (x + 16, 78)], 5, (150, 118, 88))
    for angle in range(0, 360, 60):
        dx, dy = 30 * math.cos(math.radians(angle)), 12 * math.sin(math.radians(angle))
        canvas.polygon([(x + 16, 76), (x + 16 + dx, 80 + dy), (x + 16 + dx * 0.6, 70 + dy)], (112, 160, 128))
    for _ in range(9):
        canvas.ellipse(rng.uniform(0, WIDTH), rng.uniform(120, 178), 2.5, 1.5, (246, 236, 220))


def _waves(canvas: Canvas, rng: np.random.Generator, seconds: float) -> None:
    for row in range(4):
        shift = 10 * math.sin(0.9 * seconds + row + rng.uniform(0, 6))
        for x in range(-20, 340, 46):
            canvas.line(
                [(x + shift + 11 * row, 84 + 7 * row), (x + shift + 11 * row + 16, 84 + 7 * row)], 1.2, (224, 240, 242)
            )


def _snow(canvas: Canvas, rng: np.random.Generator) -> None:
    _hills(canvas, rng, (222, 230, 240), 95)
    canvas.box(0, 108, WIDTH, HEIGHT, (236, 241, 247))
    for x in sorted(rng.uniform(0, WIDTH, size=7)):
        base, size = rng.uniform(104, 122), rng.uniform(26, 46)
        canvas.box(x - 2, base - 4, x + 2, base + 3, (120, 100, 92))
        for layer in range(3):
            y, half = base - 3 - layer * size * 0.27, size * (0.36 - 0.08 * layer)
            canvas.polygon([(x - half, y), (x + half, y), (x, y - size * 0.42)], (112, 142, 138))
            canvas.polygon(
                [(x - half * 0.4, y - size * 0.25), (x + half * 0.4, y - size * 0.25), (x, y - size * 0.42)],
                (240, 244, 250),
            )


def _snowfall(canvas: Canvas, rng: np.random.Generator, seconds: float) -> None:
    for x, y, speed in rng.uniform((0, 0, 14), (WIDTH, HEIGHT, 30), size=(36, 3)):
        canvas.ellipse(
            (x + 5 * math.sin(seconds + y)) % WIDTH, (y + speed * seconds) % HEIGHT, 1.5, 1.5, (255, 255, 255)
        )


def _night(canvas: Canvas, rng: np.random.Generator) -> None:
    x = rng.uniform(40, 280)
    canvas.ellipse(x, 34, 15, 15, (240, 236, 214))
    for dx, dy, r in ((-5, -4, 3.5), (4, 3, 2.5), (-3, 6, 2)):
        canvas.ellipse(x + dx, 34 + dy, r, r, (222, 216, 192))
    _hills(canvas, rng, (44, 56, 80), 96)
    canvas.box(0, 112, WIDTH, HEIGHT, (62, 74, 92))
    for x in (rng.uniform(20, 130), rng.uniform(180, 300)):
        canvas.line([(x, 132), (x, 72)], 3, (28, 28, 40))
        canvas.ellipse(x, 68, 12, 12, (122, 118, 110))
        canvas.ellipse(x, 68, 6, 6, (255, 240, 190))


def _stars(canvas: Canvas, rng: np.random.Generator, seconds: float) -> None:
    for x, y, phase in rng.uniform((0, 0, 0), (WIDTH, 70, 6), size=(26, 3)):
        size = 0.9 + 0.5 * math.sin(2 * seconds + phase)
        canvas.ellipse(x, y, size, size, (230, 232, 245))


SCENERY: dict[Place, Scenery] = {
    "meadow": Scenery(((150, 196, 232), (214, 232, 240)), (168, 198, 132), 100, _meadow, _clouds),
    "town": Scenery(((196, 206, 222), (226, 224, 226)), (150, 148, 152), 122, _town, _birds),
    "beach": Scenery(((164, 206, 234), (226, 236, 236)), (230, 212, 176), 112, _beach, _waves),
    "snow": Scenery(((190, 204, 222), (224, 230, 240)), (236, 241, 247), 108, _snow, _snowfall),
    "night": Scenery(((22, 26, 58), (58, 62, 104)), (62, 74, 92), 112, _night, _stars),
}
