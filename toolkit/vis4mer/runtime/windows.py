"""Cuts a stream of frame tokens into overlapping windows, holding no more than one window of tokens."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vis4mer.devices.arrays import Array


@dataclass(frozen=True)
class Window:
    """Tokens of consecutive frames.

    Attributes:
        start: Index of the first frame in the movie.
        n_frames: Number of frames; less than the window's length only if the whole movie is shorter.
        pieces: Tokens float32 ``[n, P, D]`` each, `n_frames` long together. They are views of the batches that the
            tokens came in, because most windows overlap and a copy for each would multiply the traffic.
    """

    start: int
    n_frames: int
    pieces: tuple[Array, ...]


def cut_windows(batches: Iterable[Array], length: int, stride: int) -> Iterator[Window]:
    """Yields the windows at frames 0, stride, 2 * stride, ... as soon as their last frame has arrived.

    The last window always ends on the movie's last frame. If no multiple of the stride leads there, it follows its
    predecessor by less than a stride. A stride beyond the length skips the frames between windows. A movie shorter than
    one window yields a single, shorter one.

    Args:
        batches: Tokens ``[n, P, D]`` of consecutive frames, for any n. Each is held for no longer than one window.
        length: Frames in a window, at least 1.
        stride: Frames from one window's start to the next one's, at least 1.
    """
    held: deque[Array] = deque()
    held_from = 0  # index of the first frame in `held`
    start = 0  # index of the next window's first frame
    seen = 0  # number of frames that have arrived
    for batch in batches:
        held.append(batch)
        seen += len(batch)
        while start + length <= seen:
            yield Window(start, length, _rows(held, start - held_from, length))
            start += stride
        # The movie may end with the next batch, and the last window then reaches back `length` frames from there. So a
        # batch can go once even the window that ends right here no longer needs it, wherever the next window starts.
        while held and held_from + len(held[0]) <= seen - length:
            held_from += len(held.popleft())
    if 0 < seen < length:
        yield Window(0, seen, tuple(held))
    elif seen and (seen - length) % stride:
        yield Window(seen - length, length, _rows(held, seen - length - held_from, length))


def _rows(batches: Sequence[Array], start: int, count: int) -> tuple[Array, ...]:
    """Returns views of `count` consecutive rows of the batches, from row `start` counted through all of them."""
    parts = []
    for batch in batches:
        # Relative to this batch, `start` is negative once rows have been taken from an earlier one.
        stop = min(start + count, len(batch))
        if stop > 0 and start < len(batch):
            parts.append(batch[max(0, start) : stop])
        start -= len(batch)
    return tuple(parts)
