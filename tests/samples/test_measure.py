"""Figures that the README quotes are computed as it says."""

from types import SimpleNamespace

import pytest
from cottage.film import Format
from cottage.measure import Accuracy, measure
from cottage.story import Story


@pytest.mark.parametrize("right", [0, 8, 50, 99, 100])
def test_interval_ends_where_the_share_would_be_a_rare_draw(right: int) -> None:
    """Wilson's bounds are the true shares from which the seen one lies z standard errors away."""
    accuracy, z = Accuracy(right, 100), 1.96
    low, high = accuracy.interval(z)
    assert low <= accuracy.share + 1e-12
    assert high >= accuracy.share - 1e-12
    for bound in (low, high):
        assert (accuracy.share - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / 100, abs=1e-12)


def test_counts_the_right_answers() -> None:
    seeds = range(40, 46)
    returning = sum(Story.from_seed(seed).label == "returns" for seed in seeds)

    def classifier(path: object) -> SimpleNamespace:
        return SimpleNamespace(label="returns")

    accuracy = measure(classifier, seeds, Format(fps=1, width=64, height=36), lambda story: ((0.0, 3.0),))
    assert accuracy == Accuracy(returning, len(seeds))
