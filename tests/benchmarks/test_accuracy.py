"""Accuracies and their confidence intervals."""

from types import SimpleNamespace

import pytest

from benchmarks.measure.accuracy import Accuracy, measure_accuracy
from samples.generator.film import Format
from samples.generator.story import Story


@pytest.mark.parametrize("right", [0, 8, 50, 99, 100])
def test_the_share_is_z_standard_errors_from_both_bounds(right: int) -> None:
    """Wilson's bounds are the true shares from which the observed share is z standard errors away."""
    accuracy, z = Accuracy(right, 100), 1.96
    low, high = accuracy.interval(z)
    assert low <= accuracy.share + 1e-12
    assert high >= accuracy.share - 1e-12
    for bound in (low, high):
        assert (accuracy.share - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / 100, abs=1e-12)


def test_correct_labels_are_counted() -> None:
    seeds = range(40, 46)
    returning = sum(Story.from_seed(seed).label == "returns" for seed in seeds)

    def classifier(path: object) -> SimpleNamespace:
        return SimpleNamespace(label="returns")

    accuracy = measure_accuracy(classifier, seeds, Format(fps=1, width=64, height=36), lambda story: ((0.0, 3.0),))
    assert accuracy == Accuracy(returning, len(seeds))
