from bisect import bisect_right
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vis4mer.video.sampling import MAX_STILL, NO_TIME, at_seconds, grid, n_samples, presentation_times, shown_at

TIME_BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 12_288)])


@settings(deadline=None)
@given(
    start=st.integers(-(10**9), 10**9),
    length=st.integers(1, 3000),
    fps=st.sampled_from([0.25, 1.0, 2.5, 29.97, 24000 / 1001, 1 / 3]),
    time_base=TIME_BASES,
)
def test_grid_holds_every_sample_before_the_end_rounded_down(start, length, fps, time_base):
    exact_fps = {29.97: Fraction(2997, 100), 24000 / 1001: Fraction(24000, 1001), 1 / 3: Fraction(1, 3)}.get(
        fps, Fraction(fps)
    )
    ticks = grid(start, start + length, fps, time_base)
    assert n_samples(start, start + length, fps, time_base) == len(ticks)
    exact = [start + Fraction(i) / (exact_fps * time_base) for i in range(len(ticks) + 1)]
    assert all(t <= e < t + 1 for t, e in zip(ticks.tolist(), exact, strict=False))
    assert exact[len(ticks) - 1] < start + length <= exact[len(ticks)]


@settings(deadline=None)
@given(
    shown=st.lists(st.integers(-1000, 1000), min_size=1, max_size=60).map(sorted),
    samples=st.lists(st.integers(-1200, 1200), min_size=1, max_size=60),
)
def test_shown_at_is_the_last_frame_not_after_the_sample(shown, samples):
    picked = shown_at(np.array(shown), np.array(samples))
    assert picked.tolist() == [max(bisect_right(shown, t) - 1, 0) for t in samples]


def test_samples_on_frame_boundaries_take_the_new_frame_at_ntsc_rates():
    shown = np.arange(240, dtype=np.int64)  # 30000/1001 frames/s in ticks of one frame
    picked = shown_at(shown, grid(0, 240, 30_000 / 1001 / 10, Fraction(1001, 30_000)))
    assert picked.tolist() == list(range(0, 240, 10))


def test_the_grid_is_exact_beyond_64_bits():
    time_base = Fraction(1, 2**31 - 1)
    ticks = grid(0, 600 * (2**31 - 1), 29.97, time_base)
    exact = [Fraction(100 * i, 2997) / time_base for i in range(len(ticks))]
    assert ticks.tolist() == [time.numerator // time.denominator for time in exact]


def test_at_seconds_counts_from_the_first_frame():
    assert at_seconds(90, [0, 0.5, 2.25], Fraction(1, 10)).tolist() == [90, 95, 112]


@settings(deadline=None)
@given(st.lists(st.integers(-5, 40), min_size=1, max_size=50), st.integers(-(10**6), 10**6))
def test_ordinary_timestamps_are_kept(reorder, start):
    dts = [start + 40 * i for i in range(len(reorder))]
    pts = [d + r for d, r in zip(dts, reorder, strict=True)]
    assert presentation_times(pts, dts, 40, Fraction(1, 1000)).tolist() == pts


@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 20)), min_size=1, max_size=5),
)
def test_a_clock_that_restarts_or_jumps_is_joined(parts):
    dts = [start + 40 * i for start, length in parts for i in range(length)]
    times = presentation_times(dts, dts, 40, Fraction(1, 1000))
    steps = np.diff(times)
    assert steps.min(initial=40) >= -1000
    assert steps.max(initial=40) <= 600_000


def test_a_single_wild_timestamp_moves_nothing_else():
    dts = [40 * i for i in range(10)]
    pts = [*dts]
    dts[5] = pts[5] = 10**9
    times = presentation_times(pts, dts, 40, Fraction(1, 1000))
    assert times.tolist() == [40 * i for i in range(10)]


def test_a_wild_presentation_time_falls_back_to_the_decoding_time():
    dts = [40 * i for i in range(4)]
    assert presentation_times([0, 40, -(10**9), 120], dts, 40, Fraction(1, 1000)).tolist() == dts


def test_missing_timestamps_follow_by_one_frame():
    times = presentation_times([0, NO_TIME, NO_TIME, 120], [NO_TIME] * 4, 40, Fraction(1, 1000))
    assert times.tolist() == [0, 40, 80, 120]
    assert presentation_times([NO_TIME] * 3, [NO_TIME] * 3, 40, Fraction(1, 1000)).tolist() == [0, 40, 80]


def test_missing_timestamps_at_the_start_lead_up_to_the_first_one():
    late = 10**9  # a clock that has run for days
    times = presentation_times([NO_TIME, NO_TIME, late, NO_TIME], [NO_TIME] * 4, 40, Fraction(1, 1000))
    assert times.tolist() == [late - 80, late - 40, late, late + 40]


TIMESTAMPS = st.one_of(st.just(NO_TIME), st.integers(-(2**63), 2**63 - 1), st.integers(-100, 10_000))


@settings(deadline=None)
@given(
    stamps=st.lists(st.tuples(TIMESTAMPS, TIMESTAMPS), min_size=1, max_size=40),
    time_base=st.sampled_from([Fraction(1, 1000), Fraction(1, 2**31 - 1), Fraction(2**31 - 1)]),
)
def test_forged_timestamps_neither_overflow_nor_stretch_the_movie(stamps, time_base):
    pts, dts = zip(*stamps, strict=True)
    frame_ticks, most = 40, int(MAX_STILL / time_base)
    times = [int(time) for time in presentation_times(pts, dts, frame_ticks, time_base)]
    assert max(times) - min(times) <= 2 * len(times) * (most + frame_ticks)


def test_a_jump_that_no_decoding_time_confirms_is_ignored():
    times = presentation_times([0, 40, 2**62, 120], [NO_TIME] * 4, 40, Fraction(1, 1000))
    assert times.tolist() == [0, 40, 80, 120]


def test_explicit_times_may_lie_far_behind_the_end():
    assert at_seconds(0, [1e300], Fraction(1, 1000)) >= 2**61
