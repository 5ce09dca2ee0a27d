"""Segments: short runs of consecutive frames, spread over a movie whose frames arrive in batches."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vis4mer.video.resize import Image


def segment_starts(frames: int, length: int, count: int) -> list[int]:
    """Returns the first frame of every segment, ascending and distinct.

    Segment i of N starts at ``floor(i (frames - length) / N)``. If the movie has fewer than N possible starts, there is
    a segment at each of them; a movie shorter than a segment has one segment.

    Args:
        frames: Number of frames in the movie.
        length: Number of frames in a segment.
        count: N, the number of segments wanted.

    Reference: the published feature extraction of ViS4mer for Breakfast and COIN.
    """
    # The published extraction never uses the very last start, `frames - length`, so it is not counted here.
    possible = max(frames - length, 1)
    count = min(count, possible)
    return [i * possible // count for i in range(count)]


def cut_segments(
    batches: Iterable[NDArray[np.uint8]], starts: Sequence[int], length: int, at_once: int = 1
) -> Iterator[NDArray[np.uint8]]:
    """Cuts segments from a stream of frames, holding little more than the frames of one group of segments.

    Args:
        batches: Consecutive frames, uint8 `[n, H, W, 3]` each.
        starts: First frame of every segment, as `segment_starts` returns them.
        length: Number of frames in a segment; a shorter movie's last frame is repeated.
        at_once: N, the number of segments to yield together.

    Yields:
        Segments, uint8 `[N, length, H, W, 3]`; the last group may hold fewer than N.
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
    waiting = deque(starts)
    held: deque[Image] = deque()
    first_held = 0  # frame number of held[0]
    for batch in batches:
        for frame in batch:
            held.append(frame)
            # Frames are added one at a time, so no segment's end is passed over, and a complete segment always consists
            # of the last `length` frames held.
            while waiting and first_held + len(held) == waiting[0] + length:
                yield np.stack([held[i] for i in range(len(held) - length, len(held))])
                waiting.popleft()
            # Segments overlap, so only frames before the next segment's start can go.
            while held and (not waiting or first_held < waiting[0]):
                held.popleft()
                first_held += 1
    if waiting and held:  # the movie is shorter than a segment
        padding = [held[-1]] * (length - len(held))
        yield np.stack([*held, *padding])
