import numpy as np
import pytest
from numpy.typing import NDArray

from vis4mer.timeline.drawing import Area, Label, Picture
from vis4mer.timeline.fonts import text_width
from vis4mer.timeline.strip import draw_strip, slots

HEIGHT, WIDTH = 128, 214  # of pictures, in pixels


def flat(*values: int) -> NDArray[np.uint8]:
    return np.stack([np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in values])


def drawn(pictures: NDArray[np.uint8], width: float = 749) -> tuple[list[float], list[tuple[float, float]], list[str]]:
    """Returns the left edges of the pictures, the left and right edges of the gaps, and the text in them."""
    shapes = list(draw_strip(pictures, 0, 0, width, 64, text_width))
    lefts = [shape.at[0] for shape in shapes if isinstance(shape, Picture)]
    gaps = [(shape.points[0][0], shape.points[1][0]) for shape in shapes if isinstance(shape, Area)]
    return lefts, gaps, [shape.text for shape in shapes if isinstance(shape, Label)]


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_film_that_does_not_change_has_one_picture(value: int) -> None:
    assert drawn(flat(*[value] * 7)) == ([0.0], [(107.0, 748.0)], ["unchanged"])


def test_a_picture_comes_wherever_the_film_changes() -> None:
    lefts, gaps, texts = drawn(flat(10, 10, 10, 200, 200, 10, 10))
    assert lefts == [0.0, 3 * 107.0, 5 * 107.0]
    assert gaps == [(107.0, 320.0), (428.0, 534.0), (642.0, 748.0)]
    assert texts == ["unchanged"] * 3


def test_a_slow_fade_is_not_a_still() -> None:
    lefts, _, _ = drawn(flat(0, 5, 10, 15, 20, 25, 30))
    assert lefts == [0.0, 2 * 107.0, 4 * 107.0, 6 * 107.0]


def test_noise_of_compression_is_no_change_and_a_small_object_is() -> None:
    rng = np.random.default_rng(0)
    pictures = np.clip(flat(*[90] * 7) + rng.normal(0, 8, (7, HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    assert drawn(pictures)[0] == [0.0]
    pictures[4:, 60:72, 100:112] = 200
    assert drawn(pictures)[0] == [0.0, 4 * 107.0]


def test_a_gap_too_small_for_its_text_has_none() -> None:
    pictures = np.zeros((20, 128, 76, 3), np.uint8)
    pictures[2:] = 100
    lefts, gaps, texts = drawn(pictures, 760)
    assert (len(lefts), len(gaps), texts) == (2, 2, ["unchanged"])


@pytest.mark.parametrize(
    ("width", "height", "aspect_ratio", "count"),
    [(750, 64, 16 / 9, 7), (300, 48, 16 / 9, 4), (750, 64, 9 / 16, 20), (300, 48, 10.0, 3), (750, 64, 2.39, 5)],
)
def test_there_are_as_many_pictures_as_fill_the_strip(
    width: float, height: float, aspect_ratio: float, count: int
) -> None:
    assert slots(width, height, aspect_ratio) == count


def test_a_narrow_strip_shows_fewer_pictures_each_from_its_part() -> None:
    pictures = flat(*range(0, 140, 20))
    shown = [s for s in draw_strip(pictures, 0, 0, 300, 60, text_width) if isinstance(s, Picture)]
    assert [int(s.pixels.mean()) for s in shown] == [20, 60, 100]
    for shape in shown:  # cut to the shape of its place, not squeezed
        assert shape.pixels.shape[1] / shape.pixels.shape[0] == pytest.approx(shape.width / shape.height, rel=0.02)
