"""Timestamp arithmetic: when frames are shown, and which frame each sample takes.

Everything is in integer ticks of the stream's time base, since rounding to seconds would pick the neighbouring frame
wherever a sample falls on a frame boundary.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]

NO_TIME = -(1 << 63)  # FFmpeg's sign for a timestamp that is not there

MAX_STEP_BACK = Fraction(1)  # seconds; decoding times never decrease, small slips come from careless muxers
MAX_STILL = Fraction(600)  # seconds that one frame may be shown; a longer step is a broken clock, not a slide


def presentation_times(pts: Sequence[int], dts: Sequence[int], frame_ticks: int, time_base: Fraction) -> Ticks:
    """Gives every packet a presentation time on one unbroken clock.

    Joined recordings restart their clock and damaged ones jump: where the decoding time goes back by more than
    `MAX_STEP_BACK` or forward by more than `MAX_STILL`, the rest is shifted so that it follows one frame later.
    A packet without any timestamp follows its predecessor by one frame.

    Args:
        pts: presentation timestamps in decoding order, in ticks, or `NO_TIME`.
        dts: decoding timestamps, in ticks, or `NO_TIME`.
        frame_ticks: the usual duration of a frame, in ticks.
        time_base: seconds per tick.

    Returns:
        int64 [packets], in ticks.
    """
    back, still = -int(MAX_STEP_BACK / time_base), int(MAX_STILL / time_base)
    times = np.empty(len(pts), np.int64)
    shift, last_dts, last_time = 0, None, -frame_ticks
    for i, (shown, decoded) in enumerate(zip(pts, dts, strict=True)):
        if decoded != NO_TIME:
            if last_dts is not None and not back <= decoded - last_dts <= still:
                shift += last_dts + frame_ticks - decoded
            last_dts = decoded
            if shown == NO_TIME or abs(shown - decoded) > still:
                shown = decoded
        last_time = last_time + frame_ticks if shown == NO_TIME else shown + shift
        times[i] = last_time
    return times


def grid(start: int, end: int, fps: float, time_base: Fraction) -> Ticks:
    """The regular samples: sample i is at ``start + i / fps``, for as long as that lies before `end`.

    Args:
        start: when the first frame is shown, in ticks.
        end: when the last frame ends, in ticks.
        fps: samples a second, positive; a rate such as 24000 / 1001 is recovered from its nearest float.
        time_base: seconds per tick.

    Returns:
        int64 [samples], in ticks, rounded down: a frame shown at or before a sample is at or before its rounded time.
        At least one sample.
    """
    rate = Fraction(fps).limit_denominator(1_000_000) or Fraction(fps)
    period = 1 / (rate * time_base)
    count = max(1, -int((start - end) // period))
    return np.array([start + i * period.numerator // period.denominator for i in range(count)], np.int64)


def at_seconds(start: int, seconds: Sequence[float], time_base: Fraction) -> Ticks:
    """Explicit samples: seconds after the first frame as ticks, rounded down."""
    return np.array([start + int(Fraction(t) / time_base) for t in seconds], np.int64)


def shown_at(shown: Ticks, samples: Ticks) -> NDArray[np.intp]:
    """Which frame is on screen at each sample: the last one whose time is not after it.

    Args:
        shown: when each frame is first shown, ascending, in ticks; at least one.
        samples: in ticks; one before the first frame takes the first frame.

    Returns:
        intp [samples], indices into `shown`; of frames shown at the same time, the last.
    """
    return np.maximum(np.searchsorted(shown, samples, side="right") - 1, 0)
