"""Draws as PNG."""

import contextlib
import io
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vis4mer.timeline.drawing import AREA_OPACITY, LIGHT, Area, Dot, Drawing, Label, Line, Picture, Point, Shape

_PIXELS_PER_UNIT = 2  # sharp on a dense screen
_OVERSAMPLING = 2  # Pillow draws without antialiasing, so the drawing is reduced by this factor
_DASH = 5.0  # CSS pixels
_FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf")


def to_png(drawing: Drawing) -> bytes:
    """Returns a PNG file: the drawing on a white page, with two pixels per CSS pixel."""
    scale = _PIXELS_PER_UNIT * _OVERSAMPLING
    canvas = Image.new("RGB", (drawing.width * scale, drawing.height * scale), LIGHT["surface"])
    pen = ImageDraw.Draw(canvas)
    for shape in drawing.shapes:
        _paint(pen, shape, scale)
    image = canvas.reduce(_OVERSAMPLING)
    # Pictures come last, at the final resolution: drawn on the large canvas they would be scaled twice.
    for shape in drawing.shapes:
        if isinstance(shape, Picture):
            _paste(image, shape)
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(72 * _PIXELS_PER_UNIT,) * 2)
    return file.getvalue()


def _paste(image: Image.Image, shape: Picture) -> None:
    # Both corners are rounded, not the size, so that neighbours meet without a gap.
    x, y = shape.at
    left, top = round(x * _PIXELS_PER_UNIT), round(y * _PIXELS_PER_UNIT)
    right, bottom = round((x + shape.width) * _PIXELS_PER_UNIT), round((y + shape.height) * _PIXELS_PER_UNIT)
    picture = Image.fromarray(shape.pixels).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    image.paste(picture, (left, top))


def _paint(pen: ImageDraw.ImageDraw, shape: Shape, scale: int) -> None:
    match shape:
        case Line(points, colour, width, dashed):
            for piece in _dashes(points) if dashed else [points]:
                scaled = [(x * scale, y * scale) for x, y in piece]
                pen.line(scaled, LIGHT[colour], round(width * scale), joint="curve")
        case Area(points, colour):
            pen.polygon([(x * scale, y * scale) for x, y in points], _faint(LIGHT[colour]))
        case Dot((x, y), radius, colour):
            pen.circle((x * scale, y * scale), radius * scale, LIGHT[colour])
        case Label((x, y), text, size, colour, anchor, bold):
            place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
            drawn, font = _typeset(text, size * scale)
            pen.text((x * scale, y * scale), drawn, LIGHT[colour], font, place, stroke_width=scale // 4 if bold else 0)


def _typeset(text: str, size: float) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Returns the text, and a font that has its letters; Pillow's own font covers ASCII only.

    On a machine without one of the other fonts, accents are dropped and other letters become question marks.
    """
    if text.isascii():
        return text, ImageFont.load_default(size)
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return text, ImageFont.truetype(name, size)
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "replace").decode(), ImageFont.load_default(size)


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """Cuts a straight horizontal line into dashes."""
    (x0, y), (x1, _) = points[0], points[-1]
    starts = np.arange(x0, x1, 2 * _DASH)
    return [[(float(x), y), (float(min(x + _DASH, x1)), y)] for x in starts]


def _faint(colour: str) -> tuple[int, int, int]:
    """Returns a colour ``#rrggbb`` blended with white at `AREA_OPACITY`."""
    channels = bytes.fromhex(colour.removeprefix("#"))
    red, green, blue = (round(255 + (channel - 255) * AREA_OPACITY) for channel in channels)
    return red, green, blue
