"""The strip of thumbnails above a timeline's plots."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vis4mer.timeline.drawing import Area, Label, Picture, Shape
from vis4mer.timeline.typesetting import Measure

_FEWEST, _MOST = 3, 20
_UNCHANGED, _SIZE = "unchanged", 13

# Pictures are compared as grids of mean colours, which even out the noise of compression.
_GRID = (16, 9)
_SAME_COLOUR = 8  # of 255


def slots(width: float, height: float, aspect_ratio: float) -> int:
    """Returns the number of pictures of an aspect ratio (width by height) that fill a strip."""
    return min(_MOST, max(_FEWEST, round(width / (height * aspect_ratio))))


def draw_strip(
    thumbnails: NDArray[np.uint8], x: float, y: float, width: float, height: float, measure: Measure
) -> Iterator[Shape]:
    """Draws thumbnails; a picture that hardly differs from the one before it is left out.

    Args:
        thumbnails: Pictures uint8 ``[N, H, W, 3]`` in equal steps of time, which may be more than there is room for.
        x: Left edge of the strip, in CSS pixels, as are all lengths.
        y: Upper edge of the strip.
        width: Width of the strip.
        height: Height of the strip.
        measure: Width of texts.
    """
    count = min(len(thumbnails), slots(width, height, thumbnails.shape[2] / thumbnails.shape[1]))
    pictures = [thumbnails[int((i + 0.5) / count * len(thumbnails))] for i in range(count)]
    step = width / count
    starts = _changes(pictures)
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        # One pixel of the page's colour separates the pictures.
        yield Picture((x + start * step, y), step - 1, height, _crop(pictures[start], (step - 1) / height))
        if end - start > 1:
            yield from _draw_gap(x + (start + 1) * step, y, (end - start - 1) * step - 1, height, measure)


def _draw_gap(x: float, y: float, width: float, height: float, measure: Measure) -> Iterator[Shape]:
    yield Area([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], "muted")
    if measure(_UNCHANGED, _SIZE, False) < width:
        yield Label((x + width / 2, y + height / 2 + 4), _UNCHANGED, _SIZE, "muted", "middle")


def _changes(pictures: list[NDArray[np.uint8]]) -> list[int]:
    """Returns the indices of the pictures that differ from the last one of these before them."""
    colours = [_colours(picture) for picture in pictures]
    changes = [0]
    for i in range(1, len(pictures)):
        if np.abs(colours[i] - colours[changes[-1]]).max() > _SAME_COLOUR:
            changes.append(i)
    return changes


def _colours(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(picture).resize(_GRID, Image.Resampling.BOX), np.float32)


def _crop(picture: NDArray[np.uint8], aspect_ratio: float) -> NDArray[np.uint8]:
    """Cuts a picture to an aspect ratio, equally on both sides."""
    height, width, _ = picture.shape
    kept_width, kept_height = min(width, round(height * aspect_ratio)), min(height, round(width / aspect_ratio))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return picture[top : top + kept_height, left : left + kept_width]
