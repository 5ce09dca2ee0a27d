"""Cuts a stream of frame tokens into overlapping windows, holding no more than one window of them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Tokens of consecutive frames.

    Attributes:
        start: index of the first frame in the movie.
        n_frames: frames of the movie in it; fewer than the window's length only if the movie is shorter.
        tokens: ``[length, P, D]`` float32; all zero from `n_frames` on.
    """

    start: int
    n_frames: int
    tokens: NDArray[np.float32]


def cut_windows(batches: Iterable[NDArray[np.float32]], length: int, stride: int) -> Iterator[Window]:
    """Yields the windows at frames 0, stride, 2 * stride, ... as soon as their last frame has arrived.

    The last window always ends on the movie's last frame; where the stride does not lead there it follows its
    predecessor by less than a stride. With a stride beyond the length, frames between windows go unseen. A movie
    shorter than one window gives a single one, padded with zero tokens.

    Args:
        batches: tokens ``[n, P, D]`` of consecutive frames, n being any number; each is read once and not kept beyond
            one window.
        length: frames in a window, at least 1.
        stride: frames from one window's start to the next one's, at least 1.

    Reference: the zero padding is the published LVU protocol's (Islam & Bertasius, ViS4mer, ECCV 2022, section 4.2).
    """
    latest: deque[NDArray[np.float32]] = deque(maxlen=length)
    seen = 0
    for batch in batches:
        for tokens in batch:
            latest.append(tokens)
            seen += 1
            if seen >= length and (seen - length) % stride == 0:
                yield Window(seen - length, length, np.stack(latest))
    if 0 < seen < length:
        padding = np.zeros((length - seen, *latest[0].shape), latest[0].dtype)
        yield Window(0, seen, np.concatenate([np.stack(latest), padding]))
    elif seen and (seen - length) % stride:
        yield Window(seen - length, length, np.stack(latest))
