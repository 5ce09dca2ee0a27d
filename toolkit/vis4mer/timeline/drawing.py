"""A drawing as a list of shapes, and its two forms: PNG and SVG."""

import base64
import contextlib
import html
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

AREA_OPACITY = 0.12

# By name, for a white page and for a dark one. The lines' colours are told apart with any colour vision (Okabe & Ito,
# Color Universal Design, 2008; the dark page's are lightened).
LIGHT = {
    "surface": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#626b76",
    "grid": "#e3e6ea",
    "line0": "#0072b2",
    "line1": "#d55e00",
    "line2": "#009e73",
    "line3": "#cc79a7",
    "line4": "#e69f00",
    "line5": "#56b4e9",
}
DARK = {
    "surface": "#14171c",
    "ink": "#eceff3",
    "muted": "#98a2ae",
    "grid": "#2b3038",
    "line0": "#4fb0ea",
    "line1": "#ff8a3d",
    "line2": "#2fc79a",
    "line3": "#e5a0c6",
    "line4": "#f2bb3c",
    "line5": "#a5dcff",
}

_PIXELS_PER_UNIT = 2  # of a PNG, so that it is sharp on a dense screen
_OVERSAMPLING = 2  # Pillow draws without antialiasing
_JPEG_QUALITY = 82
_FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf")


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Area:
    """A polygon, filled faintly."""

    points: Sequence[Point]
    colour: str


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    centre: Point
    radius: float
    colour: str


@dataclass(frozen=True)
class Label:
    """One line of text; `at` is the point on its baseline that `anchor` names."""

    at: Point
    text: str
    size: float
    colour: str = "ink"
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


@dataclass(frozen=True)
class Picture:
    """Pixels, uint8 ``[H, W, 3]`` RGB, scaled to `width` by `height`; `at` is the upper left corner."""

    at: Point
    width: float
    height: float
    pixels: NDArray[np.uint8]


Shape = Line | Area | Dot | Label | Picture


@dataclass(frozen=True)
class Drawing:
    """Shapes on a page, later ones over earlier ones; lengths are in CSS pixels, y points downwards."""

    width: int
    height: int
    shapes: Sequence[Shape]


def to_png(drawing: Drawing) -> bytes:
    """Draws on a white page, at two pixels a unit."""
    scale = _PIXELS_PER_UNIT * _OVERSAMPLING
    canvas = Image.new("RGB", (drawing.width * scale, drawing.height * scale), LIGHT["surface"])
    pen = ImageDraw.Draw(canvas)
    for shape in drawing.shapes:
        _paint(pen, shape, scale)
    image = canvas.reduce(_OVERSAMPLING)
    for shape in drawing.shapes:
        if isinstance(shape, Picture):
            left, top, right, bottom = (
                round(value * _PIXELS_PER_UNIT)
                for value in (*shape.at, shape.at[0] + shape.width, shape.at[1] + shape.height)
            )
            picture = Image.fromarray(shape.pixels).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
            image.paste(picture, (left, top))
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(72 * _PIXELS_PER_UNIT,) * 2)
    return file.getvalue()


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
    """The text, and a font that has its letters; Pillow's own font has those of English only.

    Where the machine has no other font either, accents are left off and other letters become question marks.
    """
    if text.isascii():
        return text, ImageFont.load_default(size)
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return text, ImageFont.truetype(name, size)
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "replace").decode(), ImageFont.load_default(size)


def _dashes(points: Sequence[Point], length: float = 5) -> list[list[Point]]:
    """Cuts straight horizontal lines, the only dashed ones there are, into dashes."""
    (x0, y), (x1, _) = points[0], points[-1]
    starts = np.arange(x0, x1, 2 * length)
    return [[(float(x), y), (float(min(x + length, x1)), y)] for x in starts]


def _faint(colour: str) -> tuple[int, int, int]:
    """The colour at `AREA_OPACITY` on white."""
    red, green, blue = (round(255 + (int(colour[i : i + 2], 16) - 255) * AREA_OPACITY) for i in (1, 3, 5))
    return red, green, blue


def to_svg(drawing: Drawing) -> str:
    """The drawing as an ``svg`` element whose colours are CSS variables of the names above, such as ``--ink``."""
    size = f'viewBox="0 0 {drawing.width} {drawing.height}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *map(_element, drawing.shapes), "</svg>"])


def css_variables(theme: Mapping[str, str]) -> str:
    """CSS that gives the colours of a theme to an SVG drawing."""
    return "".join(f"--{name}:{colour};" for name, colour in theme.items())


def _element(shape: Shape) -> str:
    match shape:
        case Line(points, colour, width, dashed):
            dashes = ' stroke-dasharray="5 5"' if dashed else ""
            style = f'fill="none" stroke="var(--{colour})" stroke-width="{width:g}" stroke-linejoin="round"{dashes}'
            return f'<polyline points="{_coordinates(points)}" {style}/>'
        case Area(points, colour):
            style = f'fill="var(--{colour})" fill-opacity="{AREA_OPACITY}"'
            return f'<polygon points="{_coordinates(points)}" {style}/>'
        case Dot((x, y), radius, colour):
            return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="var(--{colour})"/>'
        case Label((x, y), text, size, colour, anchor, bold):
            style = f'font-size="{size:g}" fill="var(--{colour})" text-anchor="{anchor}"'
            weight = ' font-weight="600"' if bold else ""
            return f'<text x="{x:g}" y="{y:g}" {style}{weight}>{html.escape(text)}</text>'
        case Picture((x, y), width, height, pixels):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY)
            source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
            place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"'
            return f'<image {place} href="{source}"/>'


def _coordinates(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
