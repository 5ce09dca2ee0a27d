"""Figures of a report that the predictions of single movies determine, computed by hand."""

import json
from pathlib import Path

import pytest

from tests.toolkit.training.evaluation.reports import classification, regression
from vis4mer.training.data.listing import Example, Listing, Split
from vis4mer.training.evaluation.baseline import Baseline
from vis4mer.training.evaluation.predictions_table import COLUMNS, prediction_rows


def listing(labels: tuple[str, ...], *targets: tuple[Split, float]) -> Listing:
    examples = tuple(Example(Path(f"{i}"), target, split) for i, (split, target) in enumerate(targets))
    return Listing("classification" if labels else "regression", labels, examples)


def test_the_baseline_predicts_the_most_frequent_class_of_the_training_movies() -> None:
    movies = listing(("a", "b"), ("train", 1), ("train", 1), ("train", 0), ("test", 0), ("test", 0), ("test", 1))
    assert Baseline.of(movies) == Baseline("b", pytest.approx(1 / 3), "train")
    tested = listing(("a", "b"), ("test", 0), ("test", 0), ("test", 1))
    assert Baseline.of(tested) == Baseline("a", pytest.approx(2 / 3), "test")
    assert Baseline.of(listing(("a", "b"), ("test", 1), ("test", 0))).prediction == "a"


def test_the_baseline_of_a_regression_predicts_the_mean_of_the_training_movies() -> None:
    movies = listing((), ("train", 1.0), ("train", 3.0), ("test", 2.0), ("test", 5.0))
    assert Baseline.of(movies) == Baseline(2.0, 4.5, "train")
    assert Baseline.of(listing((), ("test", 2.0), ("test", 5.0))) == Baseline(3.5, 2.25, "test")


def test_recall_and_precision_of_classes() -> None:
    report = classification(("a", "b", "c", "d"), [0, 0, 0, 1], [0, 1, 1, 1])
    a, b, c, d = report.classes()
    assert (a.movies, a.recall, a.precision, a.mistaken_for) == (3, pytest.approx(1 / 3), 1.0, "b")
    assert (b.movies, b.recall, b.precision, b.mistaken_for) == (1, 1.0, pytest.approx(1 / 3), None)
    assert (c.movies, c.recall, c.recall_interval, c.precision) == (0, None, None, None)
    assert d.label == "d"
    # statsmodels 0.15.0: proportion_confint(1, 3, method="wilson")
    assert a.recall_interval == pytest.approx((0.06149194472039624, 0.7923403991979522))


def test_counts_of_several_runs_are_summed_and_have_no_interval() -> None:
    report = classification(("a", "b"), [0, 1], [0, 1], [0, 0])
    a, b = report.classes()
    assert (a.movies, a.n_correct, a.recall, a.precision) == (1, 2, 1.0, pytest.approx(2 / 3))
    assert (b.movies, b.n_correct, b.recall) == (1, 1, 0.5)
    assert a.recall_interval is report.interval is None
    assert report.runs[0].predictions.interval is not None


def test_the_report_is_json_with_intervals_baseline_and_classes() -> None:
    result = json.loads(json.dumps(classification(("a", "b"), [0, 0, 0, 1], [0, 0, 0, 0]).to_dict()))
    # statsmodels 0.15.0: proportion_confint(3, 4, method="wilson")
    wilson = pytest.approx([0.30064184258240184, 0.9544127391902995])
    assert result["accuracy"] == {"mean": 0.75, "spread": None, "interval": wilson}
    assert result["runs"][0]["accuracy_interval"] == wilson
    assert result["baseline"] == {"accuracy": 0.75, "prediction": "a", "split": "test"}
    assert (result["movies"], result["windows"]) == (4, 8)
    assert [row["movies"] for row in result["classes"]] == [3, 1]

    few = regression([1.0, 2.0], [1.0, 3.0]).to_dict()
    assert few["mse"] == {"mean": 0.5, "spread": None, "interval": None}
    assert few["baseline"] == {"mse": 0.25, "prediction": 1.5, "split": "test"}
    assert "classes" not in few
    truth = [0.25 * i for i in range(12)]
    # The squared errors of test_intervals.py.
    errors = regression([0.0] * 12, truth).to_dict()["mse"]["interval"]
    assert errors == pytest.approx((1.4416782497051837, 4.2001609695274364))


def test_every_movie_of_every_run_is_a_row() -> None:
    report = classification(("a", "b"), [0, 1], [0, 0], [1, 1])
    rows = list(prediction_rows([report, regression([1.0], [1.5])]))
    assert [row["correct"] for row in rows] == [True, False, False, True, None]
    assert all(tuple(row) == COLUMNS for row in rows)
    wrong = rows[1]
    assert (wrong["checkpoint"], wrong["video"], wrong["windows"]) == ("run0/best", "1.mp4", 2)
    assert (wrong["truth"], wrong["prediction"]) == ("b", "a")
    # Two logits that differ by 4: 1 / (1 + exp(-4)).
    assert wrong["probability"] == pytest.approx(0.9820137900379085)
    assert wrong["truth_probability"] == pytest.approx(1 - 0.9820137900379085)
    assert (rows[4]["truth"], rows[4]["prediction"], rows[4]["error"]) == (1.0, 1.5, 0.5)
