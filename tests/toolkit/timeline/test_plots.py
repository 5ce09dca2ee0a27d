from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis4mer.timeline.layout import time_ticks
from vis4mer.timeline.plots import value_ticks

values = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))


@given(values, values)
@settings(deadline=None)
def test_ticks_enclose_the_values_in_equal_round_steps(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    ticks = [value for value, _ in value_ticks(low, high)]
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 5
    assert ticks[0] <= low + 1e-6 * step and high - 1e-6 * step <= ticks[-1]
    assert [b - a for a, b in pairwise(ticks)] == pytest.approx([step] * (len(ticks) - 1))
    assert float(f"{step:.0e}") == pytest.approx(step), "1, 2 or 5 times a power of ten"


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [(0.0, 1.0, ["0", "0.5", "1"]), (3.0, 3.0, ["3", "4"]), (-12.0, 31.0, ["-20", "0", "20", "40"])],
)
def test_ticks_are_formatted_briefly(low: float, high: float, texts: list[str]) -> None:
    assert [text for _, text in value_ticks(low, high)] == texts


@pytest.mark.parametrize(
    ("duration", "step", "count"), [(1.0, 1, 2), (12.0, 2, 7), (60.0, 10, 7), (4680.0, 600, 8), (1e6, 43200, 24)]
)
def test_the_time_axis_has_the_finest_round_steps_that_leave_room(duration: float, step: int, count: int) -> None:
    assert time_ticks(duration) == [float(step * i) for i in range(count)]
