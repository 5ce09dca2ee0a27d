from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis4mer.timeline.ticks import number, time_ticks, value_ticks

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
    [
        (0.0, 1.0, ["0", "0.5", "1"]),
        (3.0, 3.0, ["2.8", "3", "3.2"]),
        (-12.0, 31.0, ["-20", "0", "20", "40"]),
        (118_000.0, 131_500.0, ["115,000", "120,000", "125,000", "130,000", "135,000"]),
    ],
)
def test_ticks_are_formatted_briefly(low: float, high: float, texts: list[str]) -> None:
    assert [text for _, text in value_ticks(low, high)] == texts


@given(st.floats(-1e6, 1e6), st.floats(0, 0.001))
@settings(deadline=None)
def test_noise_does_not_fill_a_plot(value: float, noise: float) -> None:
    ticks = value_ticks(value, value + noise)
    assert noise <= 0.06 * (ticks[-1][0] - ticks[0][0])
    texts = [text for _, text in ticks]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.2, "6.2"),
        (0.123456, "0.1235"),
        (9999.4, "9999"),
        (-9999.6, "-10,000"),
        (123456.7, "123,457"),
        (-2.5e9, "-2.5e+09"),
    ],
)
def test_values_are_written_without_exponents_where_people_would(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("duration", "most", "step", "count"),
    [
        (1.0, 10, 1, 2),
        (12.0, 10, 2, 7),
        (60.0, 10, 10, 7),
        (4680.0, 10, 600, 8),
        (7199.0, 4, 1800, 4),
        (86400.0, 3, 43200, 3),
        (1e6, 10, 2 * 86400, 6),
        (1e6, 3, 4 * 86400, 3),
    ],
)
def test_the_time_axis_has_the_finest_round_steps_that_leave_room(
    duration: float, most: int, step: int, count: int
) -> None:
    assert time_ticks(duration, most) == [float(step * i) for i in range(count)]
