import io
import re

import numpy as np
import pytest
from PIL import Image

from vis4mer.timeline.drawing import LIGHT, Area, Drawing, Label, Line, fit
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


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short.mp4", 500, "short.mp4"),
        ("a" * 20 + "b" * 20, 13 * 0.62 * 15, "aaaaaaaa...bbbb"),
        ("長" * 40, 13 * 20, "長" * 12 + "..." + "長" * 6),
        ("abcdef", 0, "ab...f"),
    ],
)
def test_text_that_is_too_wide_is_shortened_in_its_middle(text: str, width: float, shown: str) -> None:
    assert fit(text, width, 13) == shown
