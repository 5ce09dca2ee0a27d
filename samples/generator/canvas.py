"""A canvas with drawing units of its own, so that the same drawing commands serve every picture size."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 320.0, 180.0
"""Size of every picture in drawing units; x grows to the right, y downwards."""

_OVERSAMPLING = 2

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Canvas:
    """A picture of WIDTH x HEIGHT drawing units, antialiased when it is read.

    Args:
        image: Image to draw on, `_OVERSAMPLING` times as large as the final picture in each direction.
    """

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._unit = image.width / WIDTH

    @classmethod
    def blank(cls, width: int, height: int, colour: Colour) -> "Canvas":
        """Returns a canvas in one colour whose final picture has width x height pixels."""
        return cls(Image.new("RGB", (width * _OVERSAMPLING, height * _OVERSAMPLING), colour))

    def copy(self) -> "Canvas":
        """Returns an independent canvas with the same picture."""
        return Canvas(self._image.copy())

    def to_array(self) -> np.ndarray:
        """Returns the final picture, uint8 [H, W, 3] RGB."""
        return np.asarray(self._image.reduce(_OVERSAMPLING))

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Fills the ellipse around (x, y)."""
        self._draw.ellipse(self._scaled((x - rx, y - ry, x + rx, y + ry)), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0) -> None:
        """Fills the rectangle, its corners rounded by `radius`."""
        self._draw.rounded_rectangle(self._scaled((x0, y0, x1, y1)), radius * self._unit, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Fills the polygon."""
        self._draw.polygon([(x * self._unit, y * self._unit) for x, y in points], fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """Draws a line through the points, with round ends."""
        scaled = [(x * self._unit, y * self._unit) for x, y in points]
        self._draw.line(scaled, fill=fill, width=max(1, round(width * self._unit)), joint="curve")
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, fill)

    def arc(self, x: float, y: float, rx: float, ry: float, degrees: tuple[float, float], fill: Colour) -> None:
        """Draws the part of an ellipse's outline between two angles, clockwise from three o'clock."""
        width = max(1, round(1.5 * self._unit))
        self._draw.arc(self._scaled((x - rx, y - ry, x + rx, y + ry)), *degrees, fill=fill, width=width)

    def text(self, x: float, y: float, words: str, size: float, fill: Colour) -> None:
        """Writes `words` centred at (x, y), in letters `size` units high."""
        font = ImageFont.load_default(size * self._unit)
        self._draw.text((x * self._unit, y * self._unit), words, fill=fill, font=font, anchor="mm")

    def gradient(self, top: Colour, bottom: Colour, y0: float, y1: float) -> None:
        """Fills the rows from y0 to y1 with a vertical gradient."""
        first, last = round(y0 * self._unit), round(y1 * self._unit)
        for row in range(first, last):
            colour = blend(top, bottom, (row - first) / (last - first))
            self._draw.line([(0, row), (self._image.width, row)], fill=colour)

    def _scaled(self, values: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = (value * self._unit for value in values)
        return x0, y0, max(x0, x1), max(y0, y1)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Returns `first` at share 0, `second` at share 1 and the mixture in between."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return r, g, b
