"""Timestamp arithmetic: when each frame is shown, and which frame each sample takes.

All times are integers in ticks of the stream's time base, and rates are exact fractions. Samples often fall exactly on
the start of a frame: at one sample and 24 frames per second, all of them do. With times as floats, in seconds, an error
in the last bit would then take the frame before instead.
"""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]

NO_TIME = -(1 << 63)  # FFmpeg's AV_NOPTS_VALUE: the timestamp is missing

MAX_STEP_BACK = Fraction(1)  # seconds; decoding times never decrease in a valid file, but some muxers are slightly off
MAX_STILL = Fraction(600)  # seconds that one frame may be shown; a longer step is a broken clock, not a still

MAX_SAMPLES = 5_000_000  # frames that one movie may yield: 57 days at one per second, 46 hours at 30

# Times stay within +-2^62 ticks, so sums and differences of a time and a duration fit into int64. At the
# nanosecond clock of Matroska this is 146 years; only forged timestamps reach it.
_MAX_TICKS = 1 << 62


def presentation_times(pts: Sequence[int], dts: Sequence[int], frame_ticks: int, time_base: Fraction) -> Ticks:
    """Returns a presentation time for every packet, on one unbroken clock.

    Joined recordings restart their clock, and damage makes it jump. Both show in the decoding times, which otherwise
    rise steadily: if one goes back by more than `MAX_STEP_BACK` or forward by more than `MAX_STILL`, all times from
    there on are shifted so that the packet follows its predecessor by one frame. Presentation times cannot show it, as
    they go back and forth anyway. A packet without any timestamp follows its predecessor by one frame, too.

    Args:
        pts: Presentation timestamps in decoding order, in ticks, or `NO_TIME`.
        dts: Decoding timestamps in decoding order, in ticks, or `NO_TIME`.
        frame_ticks: Usual duration of a frame, in ticks.
        time_base: Seconds per tick.

    Returns:
        Presentation times, int64 `[packets]`, in ticks.
    """
    lowest_step, highest_step = -int(MAX_STEP_BACK / time_base), int(MAX_STILL / time_base)
    times = np.empty(len(pts), np.int64)
    shift = 0  # from the file's clock to the unbroken one
    last_decoded: int | None = None  # on the file's clock
    last_time = _time_before_the_first(pts, dts, frame_ticks, highest_step)  # on the unbroken one
    for i, (shown, decoded) in enumerate(zip(pts, dts, strict=True)):
        if decoded != NO_TIME:
            if last_decoded is None:  # presentation times, the only ones so far, may be ahead by more than a second
                broken = abs(decoded + shift - last_time) > highest_step
                last_decoded = last_time - shift
            else:
                broken = not lowest_step <= decoded - last_decoded <= highest_step
            if broken:
                shift += last_decoded + frame_ticks - decoded
            last_decoded = decoded
            shown = _plausible(shown, decoded, highest_step)
        elif shown != NO_TIME and abs(shown + shift - last_time) > highest_step:
            shown = NO_TIME  # no decoding time confirms the jump
        last_time = last_time + frame_ticks if shown == NO_TIME else shown + shift
        if abs(last_time) > _MAX_TICKS:
            last_time = _MAX_TICKS if last_time > 0 else -_MAX_TICKS
        times[i] = last_time
    return times


def _plausible(shown: int, decoded: int, highest_step: int) -> int:
    """Replaces a presentation time that is missing or absurdly far from its packet's decoding time by the latter.

    That misplaces the frame by a few frames at most.
    """
    return decoded if shown == NO_TIME or abs(shown - decoded) > highest_step else shown


def _time_before_the_first(pts: Sequence[int], dts: Sequence[int], frame_ticks: int, highest_step: int) -> int:
    """Returns the time one frame before the first packet, so that packets without timestamps lead up to the first with.

    If they counted from 0 instead, a recording whose clock starts at a day would seem to last a day longer.
    """
    for n_before, (shown, decoded) in enumerate(zip(pts, dts, strict=True)):
        if shown != NO_TIME or decoded != NO_TIME:
            first = shown if decoded == NO_TIME else _plausible(shown, decoded, highest_step)
            return first - (n_before + 1) * frame_ticks
    return -frame_ticks


def n_samples(start: int, end: int, fps: float, time_base: Fraction) -> int:
    """Returns the number of regular samples, at least one; see `grid` for the arguments."""
    return max(1, -int((start - end) // _sample_ticks(fps, time_base)))  # the floor of a negated ratio rounds it up


def grid(start: int, end: int, fps: float, time_base: Fraction) -> Ticks:
    """Returns the times of regular samples: ``start + i / fps`` for all i that put it before `end`.

    Args:
        start: Start of the first frame, in ticks.
        end: End of the last frame, in ticks.
        fps: Samples per second, positive.
        time_base: Seconds per tick.

    Returns:
        At least one time, int64 `[samples]`, in ticks, rounded down. That changes no choice of a frame: frames start at
        whole ticks, so a frame that starts at or before a sample's exact time also starts at or before the rounded one.
    """
    period = _sample_ticks(fps, time_base)
    # Each time is computed from i, not from its predecessor, so no error accumulates; and in Python's integers, because
    # the products may exceed 64 bits.
    times = (start + i * period.numerator // period.denominator for i in itertools.count())
    return np.fromiter(times, np.int64, n_samples(start, end, fps, time_base))


def _sample_ticks(fps: float, time_base: Fraction) -> Fraction:
    """Returns the ticks from one regular sample to the next, in general not a whole number."""
    # NTSC's rates, such as 24000 / 1001, have no exact float. The simplest fraction close to the float is the rate that
    # was meant. Rates below 1 / 1,000,000 would become 0 and are taken as they are.
    rate = Fraction(fps).limit_denominator(1_000_000) or Fraction(fps)
    return 1 / (rate * time_base)


def at_seconds(start: int, seconds: Sequence[float], time_base: Fraction) -> Ticks:
    """Converts explicit sample times to ticks.

    Args:
        start: Start of the first frame, in ticks.
        seconds: Non-negative times after the first frame, in seconds.
        time_base: Seconds per tick.

    Returns:
        Times, int64 `[samples]`, in ticks, rounded down.
    """
    return np.array([min(start + int(Fraction(time) / time_base), _MAX_TICKS) for time in seconds], np.int64)


def shown_at(shown: Ticks, samples: Ticks) -> NDArray[np.intp]:
    """Returns which frame is on screen at each sample: the last one that starts at or before it.

    Args:
        shown: Start of each frame, ascending, int64 `[frames]` with at least one, in ticks.
        samples: Times of the samples, int64 `[samples]`, in ticks. A sample before the first frame takes the first.

    Returns:
        Indices into `shown`, intp `[samples]`; of several frames with the same start, the last.
    """
    return np.maximum(np.searchsorted(shown, samples, side="right") - 1, 0)
