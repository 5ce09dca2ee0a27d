"""From decoded frames to what the encoder takes: upright, cut and resampled.

Both readers share this code, so that the same picture gives the same pixels whichever decodes it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Interpolation, Preprocessing

Planes = NDArray[np.uint8]  # [3, H, W], red, green and blue
Image = NDArray[np.uint8]  # [H, W, 3]
DisplayMatrix = tuple[int, int, int, int]

IDENTITY: DisplayMatrix = (1, 0, 0, 1)

# Multiplications in one matrix product: OpenBLAS wakes other threads for more, which costs more than it gains here, and
# far more while the encoder keeps the cores busy.
_PRODUCT = 1 << 18


class Band(NamedTuple):
    """What one block of target pixels takes from the source, along one axis.

    Attributes:
        start: the block's first target pixel.
        first: its first source pixel.
        weights: float32 [target pixels, source pixels], rows summing to 1.
    """

    start: int
    first: int
    weights: NDArray[np.float32]


def upright(planes: Planes, matrix: DisplayMatrix) -> Planes:
    """Turns and mirrors a stored picture into the one that is shown; a view, nothing is copied.

    Args:
        planes: [3, H, W].
        matrix: (a, b, c, d) of the container's display matrix: the stored (x, y) is shown at (a x + c y, b x + d y),
            up to a shift; only quarter turns and mirrorings, the nearest of which is taken.

    Returns:
        [3, H, W] or [3, W, H].
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        planes, a, d = planes.swapaxes(1, 2), c, b
    return planes[:, :: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def resize(planes: Planes, preprocessing: Preprocessing) -> Image:
    """Resamples a picture to the preprocessing's height and width.

    Args:
        planes: [3, H, W]: with the colours apart, resampling is a matrix product along either axis.
        preprocessing: size, resize mode and interpolation are used.

    Returns:
        [height, width, 3], rounded once at the end.
    """
    _, height, width = planes.shape
    rows, columns = preprocessing.height, preprocessing.width
    top = left = 0.0
    if preprocessing.resize == "crop":
        scale = min(height / rows, width / columns)  # source pixels per target pixel
        top, left = (height - rows * scale) / 2, (width - columns * scale) / 2

    half = np.empty((3, rows, width), np.float32)
    for start, first, weights in _bands(preprocessing.interpolation, height, rows, top, width):
        size, reach = weights.shape
        source = planes[:, first : first + reach].astype(np.float32)  # a block at a time stays in the CPU's cache
        np.matmul(weights, source, out=half[:, start : start + size])
    flat = half.reshape(3 * rows, width)
    full = np.empty((3 * rows, columns), np.float32)
    for start, first, weights in _bands(preprocessing.interpolation, width, columns, left, 3 * rows):
        size, reach = weights.shape
        full[:, start : start + size] = flat[:, first : first + reach] @ weights.T
    result = np.rint(full).clip(0, 255).astype(np.uint8).reshape(3, rows, columns)
    return np.ascontiguousarray(np.moveaxis(result, 0, 2))


@lru_cache(maxsize=16)
def _bands(kind: Interpolation, size: int, out: int, margin: float, lines: int) -> list[Band]:
    """Weights of the source pixels in each target pixel along one axis, in blocks of neighbouring target pixels.

    Args:
        kind: of filter.
        size: number of source pixels.
        out: number of target pixels.
        margin: source pixels cut off at either end.
        lines: that the weights will be multiplied with at once, which bounds the size of a block.
    """
    step = (size - 2 * margin) / out
    radius, response = _FILTERS[kind](step)
    centres = margin + (np.arange(out) + 0.5) * step
    pixels = 1
    while (pixels + 1) * (step * (pixels + 1) + 2 * radius) * lines <= _PRODUCT:
        pixels += 1
    bands = []
    for start in range(0, out, pixels):
        block = centres[start : start + pixels]
        first = max(0, int(np.floor(block[0] - radius)))
        last = min(size, int(np.ceil(block[-1] + radius)))
        weights = response(np.arange(first, last) + 0.5 - block[:, None])
        weights /= weights.sum(axis=1, keepdims=True)
        bands.append(Band(start, first, weights.astype(np.float32)))
    return bands


Distances = NDArray[np.float64]
Response = Callable[[Distances], Distances]


def _area(step: float) -> tuple[float, Response]:
    """How much of a target pixel, `step` source pixels wide, each source pixel covers."""
    covered = step / 2 + 0.5
    return covered, lambda x: np.clip(covered - np.abs(x), 0, min(step, 1))


def _bilinear(step: float) -> tuple[float, Response]:
    """A triangle of half-width `step` when shrinking (antialiased), of 1 when enlarging."""
    width = max(step, 1)
    return width, lambda x: np.clip(1 - np.abs(x) / width, 0, None)


def _bicubic(step: float) -> tuple[float, Response]:
    """The Catmull-Rom cubic (a = -0.5), widened by `step` when shrinking.

    Reference: Keys, Cubic convolution interpolation for digital image processing (1981), equation 15.
    """
    width = max(step, 1)

    def response(x: Distances) -> Distances:
        x = np.abs(x) / width
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0))

    return 2 * width, response


_FILTERS: dict[Interpolation, Callable[[float], tuple[float, Response]]] = {
    "area": _area,
    "bilinear": _bilinear,
    "bicubic": _bicubic,
}
