import math

import pytest

from vis4mer.training.evaluation.intervals import mean_interval, share_interval


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # statsmodels 0.15.0: statsmodels.stats.proportion.proportion_confint(hits, total, method="wilson")
        (3, 4, 0.30064184258240184, 0.9544127391902995),
        (0, 1, 0.0, 0.7934506856227627),
        (1, 1, 0.2065493143772374, 1.0),
        (0, 10, 0.0, 0.27753279986288926),
        (45, 64, 0.5822979889645707, 0.8009484867446022),
        (180, 300, 0.5436365963411877, 0.6538348094139032),
    ],
)
def test_the_interval_of_a_share_is_wilsons(hits: int, total: int, low: float, high: float) -> None:
    assert share_interval(hits, total) == pytest.approx((low, high), rel=1e-12)


def test_a_share_of_nothing_has_no_interval() -> None:
    assert share_interval(0, 0) is None


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        # SciPy 1.17.1: scipy.stats.bootstrap((values,), numpy.mean, n_resamples=10_000, method="BCa",
        # rng=numpy.random.default_rng(0), batch=1)
        ([(i / 4) ** 2 for i in range(12)], 1.4416782497051837, 4.2001609695274364),
        ([0.0] * 9 + [1.0], 0.0, 0.5),
        ([0.1, 0.4, 2.5, 0.0, 0.9, 0.3, 7.2, 0.2, 1.1, 0.6, 0.05, 3.3], 0.6083333333333333, 3.2249999999999996),
    ],
)
def test_the_interval_of_a_mean_is_the_bca_bootstraps(values: list[float], low: float, high: float) -> None:
    assert mean_interval(values) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("values", [[], [1.0], [0.1 * i for i in range(9)], [2.0] * 20, [math.nan] + [1.0] * 20])
def test_too_few_equal_or_undefined_values_have_no_interval(values: list[float]) -> None:
    assert mean_interval(values) is None
