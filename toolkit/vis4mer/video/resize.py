"""From decoded frames to what the encoder takes: upright, cut and resampled.

Both readers share this code, so that the same picture gives the same pixels whichever decodes it.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Interpolation, Preprocessing

Image = NDArray[np.uint8]
DisplayMatrix = tuple[int, int, int, int]

IDENTITY: DisplayMatrix = (1, 0, 0, 1)

_BLOCK = 16  # output rows resampled at once: enough for a matrix product, few enough to touch only nearby input rows


def upright(image: NDArray[np.uint8], matrix: DisplayMatrix) -> NDArray[np.uint8]:
    """Turns and mirrors a stored picture into the one that is shown; a view, nothing is copied.

    Args:
        image: [H, W, 3].
        matrix: (a, b, c, d) of the container's display matrix: the stored (x, y) is shown at (a x + c y, b x + d y),
            up to a shift; only quarter turns and mirrorings, the nearest of which is taken.

    Returns:
        [H, W, 3] or [W, H, 3].
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def resize(image: Image, preprocessing: Preprocessing) -> Image:
    """Resamples a picture to the preprocessing's height and width.

    Args:
        image: [H, W, 3].
        preprocessing: size, resize mode and interpolation are used.

    Returns:
        [height, width, 3], rounded once at the end.
    """
    height, width = image.shape[:2]
    rows, columns = preprocessing.height, preprocessing.width
    top = left = 0.0
    if preprocessing.resize == "crop":
        scale = min(height / rows, width / columns)  # source pixels per target pixel
        top, left = (height - rows * scale) / 2, (width - columns * scale) / 2
    kind = preprocessing.interpolation
    half = _resample_rows(image, _bands(kind, height, rows, top))
    full = _resample_rows(half.swapaxes(0, 1), _bands(kind, width, columns, left)).swapaxes(0, 1)
    return np.ascontiguousarray(np.rint(full).clip(0, 255).astype(np.uint8))


Bands = list[tuple[int, NDArray[np.float32]]]


def _resample_rows(image: NDArray[np.uint8] | NDArray[np.float32], bands: Bands) -> NDArray[np.float32]:
    """Mixes rows: [H, W, 3] to [rows, W, 3]."""
    parts = []
    for first, weights in bands:
        source = np.ascontiguousarray(image[first : first + weights.shape[1]], np.float32)
        parts.append(weights @ source.reshape(len(source), -1))
    return np.concatenate(parts).reshape(-1, *image.shape[1:])


@lru_cache(maxsize=16)
def _bands(kind: Interpolation, size: int, out: int, margin: float) -> Bands:
    """Weights of the source rows in each target row, in blocks of target rows.

    Args:
        kind: of filter.
        size: number of source rows.
        out: number of target rows.
        margin: source rows cut off at either end.

    Returns:
        For each block of target rows its first source row and a matrix [target rows, source rows], rows summing to 1.
    """
    step = (size - 2 * margin) / out
    radius, response = _FILTERS[kind](step)
    centres = margin + (np.arange(out) + 0.5) * step
    bands = []
    for block in np.split(centres, range(_BLOCK, out, _BLOCK)):
        first = max(0, int(np.floor(block[0] - radius)))
        last = min(size, int(np.ceil(block[-1] + radius)))
        weights = response(np.arange(first, last) + 0.5 - block[:, None])
        weights /= weights.sum(axis=1, keepdims=True)
        bands.append((first, weights.astype(np.float32)))
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
