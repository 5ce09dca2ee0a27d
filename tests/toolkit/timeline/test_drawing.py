import io
import re

import numpy as np
import pytest
from PIL import Image

from vis4mer.colours import DARK, LIGHT
from vis4mer.timeline.drawing import Area, Drawing, Label, Line
from vis4mer.timeline.png import to_png
from vis4mer.timeline.svg import to_svg


def test_a_drawing_is_the_same_in_both_forms() -> None:
    drawing = Drawing(
        20,
        10,
        [
            Area([(0, 0), (20, 0), (20, 5), (0, 5)], "line0"),
            Line([(0, 8), (20, 8)], "line1", 2),
            Label((1, 5), "a<b", 4, "muted"),
        ],
    )
    pixels = np.asarray(Image.open(io.BytesIO(to_png(drawing))))
    assert pixels.shape == (20, 40, 3)
    assert tuple(pixels[16, 20]) == tuple(bytes.fromhex(LIGHT["line1"][1:]))
    faint = [round(255 + (c - 255) * 0.12) for c in bytes.fromhex(LIGHT["line0"][1:])]
    assert pixels[1, 38].tolist() == faint
    svg = to_svg(drawing)
    assert re.search(r'<polyline points="0\.00,8\.00 20\.00,8\.00" .*stroke="var\(--line1\)" stroke-width="2"', svg)
    assert ">a&lt;b</text>" in svg


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("colour", ["ink", "muted"])
def test_text_is_readable_on_the_page(theme: dict[str, str], colour: str) -> None:
    light, dark = sorted((luminance(theme[colour]), luminance(theme["surface"])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5, "the contrast of WCAG 2.2, level AA"


def luminance(colour: str) -> float:
    channels = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_overlapping_areas_are_both_seen() -> None:
    square = [(0, 0), (10, 0), (10, 10), (0, 10)]
    drawing = Drawing(10, 10, [Area(square, "line0", 0.5), Area(square, "line1", 0.5)])
    (red, green, blue) = np.asarray(Image.open(io.BytesIO(to_png(drawing))))[10, 10]
    line0, line1 = (np.array(list(bytes.fromhex(LIGHT[name][1:]))) for name in ("line0", "line1"))
    np.testing.assert_allclose([red, green, blue], 0.25 * 255 + 0.25 * line0 + 0.5 * line1, atol=2)
    assert to_svg(drawing).count('fill-opacity="0.5"') == 2


def test_labels_with_accents_are_drawn() -> None:
    def pixels(text: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(to_png(Drawing(60, 30, [Label((5, 22), text, 20)])))))

    assert not np.array_equal(pixels("u"), pixels("ü"))
    np.testing.assert_array_equal(pixels("ü"), pixels("u\u0308"))
