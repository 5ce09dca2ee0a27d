"""Cuts a stream of frame tokens into overlapping windows, holding no more than one window of them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vis4mer.devices.arrays import Array


@dataclass(frozen=True)
class Window:
    """Tokens of consecutive frames.

    Attributes:
        start: index of the first frame in the movie.
        n_frames: frames of the movie in it; fewer than the window's length only if the movie is shorter.
        pieces: ``[n, P, D]`` float32 each, together `n_frames` long: parts of the batches that the tokens came in, not
            copied.
    """

    start: int
    n_frames: int
    pieces: tuple[Array, ...]


def cut_windows(batches: Iterable[Array], length: int, stride: int) -> Iterator[Window]:
    """Yields the windows at frames 0, stride, 2 * stride, ... as soon as their last frame has arrived.

    The last window always ends on the movie's last frame; where the stride does not lead there it follows its
    predecessor by less than a stride. With a stride beyond the length, frames between windows go unseen. A movie
    shorter than one window gives a single one, which is shorter then.

    Args:
        batches: tokens ``[n, P, D]`` of consecutive frames, n being any number; each is held for no longer than one
            window.
        length: frames in a window, at least 1.
        stride: frames from one window's start to the next one's, at least 1.
    """
    held: deque[Array] = deque()
    start, first, seen = 0, 0, 0  # of the next window; of the frames held; number of all frames
    for batch in batches:
        held.append(batch)
        seen += len(batch)
        while start + length <= seen:
            yield Window(start, length, _rows(held, start - first, length))
            start += stride
        while held and first + len(held[0]) <= seen - length:
            first += len(held.popleft())
    if 0 < seen < length:
        yield Window(0, seen, tuple(held))
    elif seen and (seen - length) % stride:
        yield Window(seen - length, length, _rows(held, seen - length - first, length))


def _rows(batches: Sequence[Array], start: int, count: int) -> tuple[Array, ...]:
    """The parts of the batches that hold `count` rows from `start` on, counted through all of them."""
    parts = []
    for batch in batches:
        if (stop := min(start + count, len(batch))) > 0 and start < len(batch):
            parts.append(batch[max(0, start) : stop])
        start -= len(batch)
    return tuple(parts)
