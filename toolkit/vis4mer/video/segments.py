"""Segments: short runs of consecutive frames, spread over a movie whose frames arrive in batches."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vis4mer.video.resize import Image


def segment_starts(frames: int, length: int, count: int) -> list[int]:
    """Returns the first frame of every segment, ascending and distinct.

    Segment i of N starts at ``floor(i (frames - length) / N)``. A movie with fewer starts than that has a segment at
    each of them, one shorter than a segment has one.

    Args:
        frames: of the movie.
        length: of a segment, in frames.
        count: N, segments that are wanted.

    Reference: the published feature extraction of ViS4mer for Breakfast and COIN.
    """
    room = max(frames - length, 1)
    count = min(count, room)
    return [i * room // count for i in range(count)]


def cut_segments(
    batches: Iterable[NDArray[np.uint8]], starts: Sequence[int], length: int, at_once: int = 1
) -> Iterator[NDArray[np.uint8]]:
    """Cuts segments from a stream of frames, holding hardly more of it than they need.

    Args:
        batches: consecutive frames, uint8 [n, H, W, 3] each.
        starts: as of `segment_starts`.
        length: of a segment, in frames; where the movie is shorter, its last frame is repeated.
        at_once: segments that are given together.

    Yields:
        uint8 [N, length, H, W, 3], N being `at_once` but for the last ones.
    """
    group: list[NDArray[np.uint8]] = []
    for segment in _segments(batches, starts, length):
        group.append(segment)
        if len(group) == at_once:
            yield np.stack(group)
            group = []
    if group:
        yield np.stack(group)


def _segments(batches: Iterable[NDArray[np.uint8]], starts: Sequence[int], length: int) -> Iterator[NDArray[np.uint8]]:
    held: deque[Image] = deque()
    first, waiting = 0, deque(starts)  # first: number of the first frame that is held
    for batch in batches:
        for frame in batch:
            held.append(frame)
            while waiting and first + len(held) == waiting[0] + length:
                yield np.stack([held[i] for i in range(len(held) - length, len(held))])
                waiting.popleft()
            while held and (not waiting or first < waiting[0]):
                held.popleft()
                first += 1
    if waiting and held:  # the movie is shorter than a segment
        yield np.stack([*held, *[held[-1]] * (length - len(held))])
