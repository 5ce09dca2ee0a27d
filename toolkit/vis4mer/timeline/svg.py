"""Draws as SVG, for the HTML page."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

from PIL import Image

from vis4mer.timeline.drawing import Area, Dot, Drawing, Label, Line, Picture, Point, Shape

_JPEG_QUALITY = 82
_DASH = 5.0  # CSS pixels


def to_svg(drawing: Drawing) -> str:
    """Returns the drawing as an ``svg`` element; its colours are CSS variables such as ``--ink``.

    The element's class is `css_class` of the drawing.
    """
    # The title is an attribute, because browsers show a title element under the pointer.
    label = f'role="img" aria-label="{html.escape(drawing.title)}"'
    size = f'class="{css_class(drawing)}" viewBox="0 0 {drawing.width} {drawing.height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>'
    return "\n".join(
        [head, f"<desc>{html.escape(drawing.description)}</desc>", *map(_element, drawing.shapes), "</svg>"]
    )


def css_class(drawing: Drawing) -> str:
    """Returns the class of the drawing's element, which drawings of another width do not have."""
    return f"width-{drawing.width}"


def css_variables(theme: Mapping[str, str]) -> str:
    """Returns the CSS that defines a theme's colours for an SVG drawing."""
    return "".join(f"--{name}:{colour};" for name, colour in theme.items())


def _element(shape: Shape) -> str:
    match shape:
        case Line(points, colour, width, dashed):
            dashes = f' stroke-dasharray="{_DASH:g} {_DASH:g}"' if dashed else ""
            style = f'fill="none" stroke="var(--{colour})" stroke-width="{width:g}" stroke-linejoin="round"{dashes}'
            return f'<polyline points="{_coordinates(points)}" {style}/>'
        case Area(points, colour, opacity):
            style = f'fill="var(--{colour})" fill-opacity="{opacity:g}"'
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
