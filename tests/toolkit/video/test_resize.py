import itertools

import numpy as np
import pytest
from PIL import Image

from vis4mer.config import Preprocessing
from vis4mer.video import resize as resizing
from vis4mer.video.resize import upright

RNG = np.random.default_rng(0)


def resize(image, preprocessing):
    return resizing.resize(np.moveaxis(image, 2, 0), preprocessing)


def picture(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def coverage(size, out, i, j):
    """Length of source pixel j that lies inside target pixel i."""
    begin, end = i * size / out, (i + 1) * size / out
    return max(0.0, min(end, j + 1) - max(begin, j))


@pytest.mark.parametrize(
    ("source", "target"), [((36, 64), (7, 9)), ((30, 20), (15, 5)), ((11, 13), (11, 13)), ((5, 6), (8, 9))]
)
def test_area_averages_the_covered_source_pixels(source, target):
    image = picture(*source)
    expected = np.zeros((*target, 3))
    for i, j in itertools.product(range(target[0]), range(target[1])):
        rows = np.array([coverage(source[0], target[0], i, y) for y in range(source[0])])
        columns = np.array([coverage(source[1], target[1], j, x) for x in range(source[1])])
        weights = np.outer(rows, columns)
        expected[i, j] = (image * weights[..., None]).sum((0, 1)) / weights.sum()
    result = resize(image, Preprocessing(height=target[0], width=target[1]))
    assert np.abs(result - expected).max() <= 0.501


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("source", "target"), [((90, 160), (56, 56)), ((40, 33), (7, 48)), ((20, 20), (50, 45)), ((300, 5), (1, 1))]
)
def test_filters_agree_with_pillow(kind, source, target):
    image = picture(*source) // 2 + 64  # Pillow clips and rounds between its two passes: leave room to overshoot
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = np.asarray(Image.fromarray(image).resize(target[::-1], filters[kind]), int)
    result = resize(image, Preprocessing(height=target[0], width=target[1], interpolation=kind))
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize("kind", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "box"), [((60, 100), (20, 0, 80, 60)), ((100, 60), (0, 20, 60, 80))])
def test_crop_removes_the_excess_equally(kind, source, box):
    image = picture(*source)
    result = resize(image, Preprocessing(height=30, width=30, resize="crop", interpolation=kind)).astype(int)
    left, top, right, bottom = box
    cut = resize(image[top:bottom, left:right], Preprocessing(height=30, width=30, interpolation=kind)).astype(int)
    assert np.array_equal(result[4:-4, 4:-4], cut[4:-4, 4:-4])  # filters reach over the cut at the borders
    if kind == "area":
        assert np.array_equal(result, cut)


def test_crop_of_an_odd_excess_is_centred():
    ramp = np.repeat(np.arange(0, 202, 2, dtype=np.uint8)[None, :, None], 50, 0).repeat(3, 2)  # 101 wide
    result = resize(ramp, Preprocessing(height=50, width=50, resize="crop"))
    assert abs(result.mean() - 100) <= 0.51  # the middle column's value


def test_same_size_is_the_identity():
    image = picture(17, 23)
    for kind in ("area", "bilinear", "bicubic"):
        assert np.array_equal(resize(image, Preprocessing(height=17, width=23, interpolation=kind)), image)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_upright_moves_each_pixel_where_the_matrix_says(quarters, mirrored):
    turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarters) @ np.diag([-1 if mirrored else 1, 1])
    (a, c), (b, d) = turn.tolist()  # column vectors: x' = a x + c y, y' = b x + d y
    image = picture(4, 6)
    result = np.moveaxis(upright(np.moveaxis(image, 2, 0), (a, b, c, d)), 0, 2)
    points = {(x, y): turn @ (x, y) for x, y in itertools.product(range(6), range(4))}
    shift = np.min(list(points.values()), axis=0)
    for (x, y), point in points.items():
        shown_x, shown_y = point - shift
        assert np.array_equal(result[shown_y, shown_x], image[y, x])
