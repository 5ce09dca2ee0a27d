import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis4mer.runtime.prediction import WindowPrediction
from vis4mer.timeline.series import condense, group_size, group_windows


def windows(n: int, step: float = 1.0, length: float = 60.0) -> list[WindowPrediction]:
    return [WindowPrediction(i * step, i * step + length) for i in range(n)]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), st.integers(1, 60))
@settings(deadline=None)
def test_a_group_is_its_mean_its_lowest_and_its_highest_value(values: list[float], size: int) -> None:
    series = condense(values, size)
    groups = [np.array(values[i : i + size]) for i in range(0, len(values), size)]
    np.testing.assert_allclose(series.mean, [group.mean() for group in groups], rtol=1e-12, atol=1e-10)
    assert series.low.tolist() == [group.min() for group in groups]
    assert series.high.tolist() == [group.max() for group in groups]
    if size == 1:
        assert series.mean.tolist() == values


@pytest.mark.parametrize(
    ("n", "duration", "width", "size"),
    [
        (1, 60.0, 800.0, 1),
        (300, 359.0, 800.0, 1),  # 666 pixels
        (400, 459.0, 800.0, 3),  # 695 pixels, less than two for each
        (7141, 7200.0, 800.0, 37),
        (86341, 86400.0, 800.0, 433),
        (86341, 86400.0, 290.0, 1192),
    ],
)
def test_windows_share_points_only_where_they_are_crowded(n: int, duration: float, width: float, size: int) -> None:
    assert group_size(windows(n), duration, width) == size
    # Without groups two pixels are the least distance, with groups four.
    assert -(-n // size) <= width / (2 if size == 1 else 4) + 1


def test_windows_at_one_moment_are_one_point() -> None:
    assert group_size([WindowPrediction(0, 10)] * 50, 10.0, 800.0) == 50


def test_groups_span_their_windows() -> None:
    groups = group_windows(windows(7, 2.0, 10.0), 3)
    assert [(group.start, group.end, group.centre, group.count) for group in groups] == [
        (0.0, 14.0, 7.0, 3),
        (6.0, 20.0, 13.0, 3),
        (12.0, 22.0, 17.0, 1),
    ]
