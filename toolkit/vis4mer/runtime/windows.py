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


class WindowCutter:
    """Cuts the tokens of one movie into windows, batch by batch.

    Windows are at frames 0, stride, 2 * stride, ... The last one always ends on the movie's last frame. If no multiple
    of the stride leads there, it follows its predecessor by less than a stride. A stride beyond the length skips the
    frames between windows. A movie shorter than one window has a single, shorter one.

    Args:
        length: Frames in a window, at least 1.
        stride: Frames from one window's start to the next one's, at least 1.
    """

    def __init__(self, length: int, stride: int) -> None:
        self._length, self._stride = length, stride
        self._held: deque[Array] = deque()
        self._held_from = 0  # index of the first frame in `_held`
        self._start = 0  # index of the next window's first frame
        self._seen = 0  # number of frames that have arrived

    def add(self, batch: Array) -> list[Window]:
        """Adds the tokens ``[n, P, D]`` of the next frames, for any n, and returns the windows that they complete.

        A batch is held for no longer than one window.
        """
        self._held.append(batch)
        self._seen += len(batch)
        windows = []
        while self._start + self._length <= self._seen:
            windows.append(self._window(self._start))
            self._start += self._stride
        # The movie may end with the next batch, and the last window then reaches back `length` frames from there. So a
        # batch can go once even the window that ends right here no longer needs it, wherever the next window starts.
        while self._held and self._held_from + len(self._held[0]) <= self._seen - self._length:
            self._held_from += len(self._held.popleft())
        return windows

    def finish(self) -> list[Window]:
        """Returns the window that ends on the movie's last frame, unless `add` has returned it already."""
        if 0 < self._seen < self._length:
            return [Window(0, self._seen, tuple(self._held))]
        if self._seen and (self._seen - self._length) % self._stride:
            return [self._window(self._seen - self._length)]
        return []

    def _window(self, start: int) -> Window:
        return Window(start, self._length, _rows(self._held, start - self._held_from, self._length))


def cut_windows(batches: Iterable[Array], length: int, stride: int) -> Iterator[Window]:
    """Yields the windows of a movie as soon as their last frame has arrived; see `WindowCutter`.

    Args:
        batches: Tokens ``[n, P, D]`` of consecutive frames, for any n. Each is held for no longer than one window.
        length: Frames in a window, at least 1.
        stride: Frames from one window's start to the next one's, at least 1.
    """
    cutter = WindowCutter(length, stride)
    for batch in batches:
        yield from cutter.add(batch)
    yield from cutter.finish()


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
