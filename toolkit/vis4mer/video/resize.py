"""Brings a decoded picture upright, crops it and resamples it to the encoder's input size.

This is the definition, and the code that runs on the CPU. `vis4mer.video.device_pictures` applies the same weights on a
GPU, so a picture yields the same pixels, within one level, whichever reader decodes it.

Resampling is separable and linear: every target row is a weighted sum of source rows, and likewise for columns. So it
is two matrix products, ``rows @ picture @ columns.T`` for each colour. A target pixel depends only on the source pixels
within the filter's radius, so the matrices are almost entirely zero outside a band around the diagonal:

      target rows   [ x x x . . . . . . ]   block 1: a small dense matrix, times source rows 0 to 4
                    [ . . x x x . . . . ]
                    [ . . . . x x x . . ]   block 2: another one, times source rows 4 to 8
                    [ . . . . . . x x x ]

Cut into blocks of neighbouring target pixels, the band becomes small dense products, each of which skips most of the
zeros and works on source pixels that fit into the CPU's cache.
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

# Most multiplications in one matrix product. Beyond this OpenBLAS wakes further threads, which costs more than it gains
# at this size, and far more while the encoder keeps the cores busy.
_MAX_MULTIPLICATIONS = 1 << 18


class Band(NamedTuple):
    """Weights of the source pixels in one block of neighbouring target pixels, along one axis.

    Attributes:
        start: First target pixel of the block.
        first: First source pixel that the block depends on.
        weights: Weights, float32 `[target pixels, source pixels]`; each row sums to 1.
    """

    start: int
    first: int
    weights: NDArray[np.float32]


class Taps(NamedTuple):
    """Weights of the source pixels of each target pixel along one axis, as many for each; unused ones are 0.

    Attributes:
        first: First source pixel, int32 `[target pixels]`, ascending.
        weights: Weights of that pixel and those after it, float32 `[target pixels, count]`; each row sums to 1.
    """

    first: NDArray[np.int32]
    weights: NDArray[np.float32]


def upright(planes: Planes, matrix: DisplayMatrix) -> Planes:
    """Rotates and mirrors a stored picture into the one that is shown.

    Args:
        planes: Stored picture, uint8 `[3, H, W]`.
        matrix: (a, b, c, d) of the container's display matrix: the stored pixel (x, y) is shown at (a x + c y,
            b x + d y), up to a translation. The nearest combination of quarter turns and mirrorings applies.

    Returns:
        Shown picture, uint8 `[3, H, W]` or `[3, W, H]`; a view, nothing is copied.
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        # Transposing the picture swaps the roles of x and y, and with them the columns of the matrix.
        planes, a, d = planes.swapaxes(1, 2), c, b
    row_step, column_step = (-1 if d < 0 else 1), (-1 if a < 0 else 1)
    return planes[:, ::row_step, ::column_step]


def resize(planes: Planes, preprocessing: Preprocessing) -> Image:
    """Resamples a picture to the preprocessing's height and width.

    Args:
        planes: Picture, uint8 `[3, H, W]`. With the colours in separate planes, resampling is a matrix product along
            either axis.
        preprocessing: Size, resize mode and interpolation; the rest is ignored.

    Returns:
        Image, uint8 `[height, width, 3]`. Values are rounded once, after both passes.
    """
    _, height, width = planes.shape
    rows, columns = preprocessing.height, preprocessing.width
    top, left = _margins(preprocessing, height, width)

    # Rows first: the picture is wide and its rows are contiguous, so this pass reads memory in order.
    half = np.empty((3, rows, width), np.float32)
    for start, first, weights in _bands(preprocessing.interpolation, height, rows, top, width):
        n_targets, n_sources = weights.shape
        # Converting a block at a time keeps it in the CPU's cache for the product.
        source = planes[:, first : first + n_sources].astype(np.float32)
        np.matmul(weights, source, out=half[:, start : start + n_targets])

    # Columns: the rows of all three colours are resampled alike, so they are stacked for one product per block.
    flat = half.reshape(3 * rows, width)
    full = np.empty((3 * rows, columns), np.float32)
    for start, first, weights in _bands(preprocessing.interpolation, width, columns, left, 3 * rows):
        n_targets, n_sources = weights.shape
        full[:, start : start + n_targets] = flat[:, first : first + n_sources] @ weights.T

    # The bicubic filter overshoots at edges, so values may lie outside of 0 to 255.
    result = np.rint(full).clip(0, 255).astype(np.uint8).reshape(3, rows, columns)
    return np.ascontiguousarray(np.moveaxis(result, 0, 2))


def taps(preprocessing: Preprocessing, height: int, width: int) -> tuple[Taps, Taps]:
    """Returns the weights of `resize` for pictures of a height and width: those of rows, then those of columns."""
    top, left = _margins(preprocessing, height, width)
    kind = preprocessing.interpolation
    vertical = _axis_taps(_resampling(kind, height, preprocessing.height, top), height)
    return vertical, _axis_taps(_resampling(kind, width, preprocessing.width, left), width)


def _margins(preprocessing: Preprocessing, height: int, width: int) -> tuple[float, float]:
    """Returns the number of source pixels to cut off at top and bottom each, and at left and right each."""
    if preprocessing.resize == "stretch":
        return 0.0, 0.0
    rows, columns = preprocessing.height, preprocessing.width
    scale = min(height / rows, width / columns)  # source pixels per target pixel
    return (height - rows * scale) / 2, (width - columns * scale) / 2


class _Resampling(NamedTuple):
    """Resampling along one axis.

    Attributes:
        step: Source pixels per target pixel.
        centres: Centres of the target pixels in source coordinates, float64 `[target pixels]`.
        radius: Distance in source pixels beyond which a source pixel has no weight.
        response: Weight as a function of that distance, not yet normalised.
    """

    step: float
    centres: NDArray[np.float64]
    radius: float
    response: "Response"


def _resampling(kind: Interpolation, size: int, out: int, margin: float) -> _Resampling:
    """Returns the resampling of `size` source pixels, less `margin` at either end, to `out` target pixels."""
    step = (size - 2 * margin) / out
    centres = margin + (np.arange(out, dtype=np.float64) + 0.5) * step
    return _Resampling(step, centres, *_FILTERS[kind](step))


def _weights(resampling: _Resampling, targets: slice, sources: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns the weights of source pixels `[sources]` or `[targets, sources]` in target pixels."""
    weights = resampling.response(sources + 0.5 - resampling.centres[targets, None])
    # At the border the filter reaches beyond the picture; the pixels inside then share the whole weight.
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def _axis_taps(resampling: _Resampling, size: int) -> Taps:
    first = np.floor(resampling.centres - resampling.radius).astype(np.int64).clip(0)
    last = np.ceil(resampling.centres + resampling.radius).astype(np.int64).clip(max=size)  # exclusive
    count = int((last - first).max())
    # Near the end the taps begin earlier, so that they end with the picture.
    first = np.minimum(first, size - count)
    sources = first[:, None] + np.arange(count)
    return Taps(first.astype(np.int32), _weights(resampling, slice(None), sources))


@lru_cache(maxsize=16)
def _bands(kind: Interpolation, size: int, out: int, margin: float, lines: int) -> list[Band]:
    """Returns the bands along one axis; cached, because all frames of a movie share them.

    Args:
        kind: Filter.
        size: Number of source pixels.
        out: Number of target pixels.
        margin: Number of source pixels to cut off at either end.
        lines: Number of source rows or columns in the product, which limits the size of a block.
    """
    resampling = _resampling(kind, size, out, margin)
    block_size = _block_size(resampling.step, resampling.radius, lines)
    bands = []
    for start in range(0, out, block_size):
        targets = slice(start, start + block_size)
        block = resampling.centres[targets]
        first = max(0, int(np.floor(block[0] - resampling.radius)))
        last = min(size, int(np.ceil(block[-1] + resampling.radius)))  # exclusive
        bands.append(Band(start, first, _weights(resampling, targets, np.arange(first, last))))
    return bands


def _block_size(step: float, radius: float, lines: int) -> int:
    """Returns the largest number of target pixels whose product stays within `_MAX_MULTIPLICATIONS`, at least 1."""
    pixels = 1
    while (pixels + 1) * (step * (pixels + 1) + 2 * radius) * lines <= _MAX_MULTIPLICATIONS:
        pixels += 1
    return pixels


# A filter maps the step, in source pixels per target pixel, to its radius and its response: the weight of a source
# pixel as a function of the distance of the two pixels' centres, both in source pixels and not yet normalised.
Distances = NDArray[np.float64]
Response = Callable[[Distances], Distances]


def _area(step: float) -> tuple[float, Response]:
    """The length of a source pixel that lies within a target pixel, which is `step` source pixels wide.

    Two intervals, `step` and 1 long, overlap by half their total length less the distance of their centres, but by no
    more than the shorter one.
    """
    half_lengths = step / 2 + 0.5
    return half_lengths, lambda x: np.clip(half_lengths - np.abs(x), 0, min(step, 1))


def _bilinear(step: float) -> tuple[float, Response]:
    """A triangle, of half-width `step` when shrinking (to prevent aliasing) and 1 when enlarging."""
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
