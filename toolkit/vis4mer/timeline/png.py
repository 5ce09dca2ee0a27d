"""Draws as PNG."""

import io
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from vis4mer.colours import LIGHT
from vis4mer.timeline.drawing import Area, Dot, Drawing, Label, Line, Picture, Point, Shape
from vis4mer.timeline.fonts import font_for

_PIXELS_PER_UNIT = 2  # sharp on a dense screen
_OVERSAMPLING = 2  # Pillow draws without antialiasing, so the drawing is reduced by this factor
_DASH = 5.0  # CSS pixels


def to_png(drawing: Drawing) -> bytes:
    """Returns a PNG file: the drawing on a white page, with two pixels per CSS pixel, and its description as text."""
    scale = _PIXELS_PER_UNIT * _OVERSAMPLING
    canvas = Image.new("RGB", (drawing.width * scale, drawing.height * scale), LIGHT["surface"])
    pen = ImageDraw.Draw(canvas, "RGBA")  # areas are transparent
    for shape in drawing.shapes:
        _paint(pen, shape, scale)
    image = canvas.reduce(_OVERSAMPLING)
    # Pictures come last, at the final resolution: drawn on the large canvas they would be scaled twice.
    for shape in drawing.shapes:
        if isinstance(shape, Picture):
            _paste(image, shape)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Title", drawing.title)
    text.add_itxt("Description", drawing.description)
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(72 * _PIXELS_PER_UNIT,) * 2, pnginfo=text)
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
        case Area(points, colour, opacity):
            red, green, blue = bytes.fromhex(LIGHT[colour].removeprefix("#"))
            pen.polygon([(x * scale, y * scale) for x, y in points], (red, green, blue, round(255 * opacity)))
        case Dot((x, y), radius, colour):
            pen.circle((x * scale, y * scale), radius * scale, LIGHT[colour])
        case Label((x, y), text, size, colour, anchor, bold):
            place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
            # A decomposed letter, as in file names of macOS, is often drawn worse than the composed one.
            text = unicodedata.normalize("NFC", text)
            pen.text((x * scale, y * scale), text, LIGHT[colour], font_for(text, size * scale, bold), place)


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """Cuts a straight horizontal line into dashes."""
    (x0, y), (x1, _) = points[0], points[-1]
    starts = np.arange(x0, x1, 2 * _DASH)
    return [[(float(x), y), (float(min(x + _DASH, x1)), y)] for x in starts]
