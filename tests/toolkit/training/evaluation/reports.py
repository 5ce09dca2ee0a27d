"""Reports with made-up predictions."""

from collections.abc import Sequence
from pathlib import Path

import torch

from vis4mer.training.data.listing import Example, Listing
from vis4mer.training.evaluation.baseline import Baseline
from vis4mer.training.evaluation.metrics import Predictions
from vis4mer.training.evaluation.report import Report, Run


def classification(
    labels: Sequence[str], truth: Sequence[int], *predicted: Sequence[int], name: str = "movies.csv"
) -> Report:
    """A report of one run for each list of predicted classes; every movie has two windows."""
    targets = torch.tensor(truth, dtype=torch.float32)
    movies = torch.arange(len(truth))
    runs = []
    for number, classes in enumerate(predicted):
        logits = 4.0 * torch.nn.functional.one_hot(torch.tensor(classes), len(labels))
        windows = Predictions.from_windows(logits.repeat(2, 1), targets.repeat(2), movies.repeat(2), "classification")
        runs.append(Run(f"run{number}/best", windows, seed=number))
    examples = tuple(Example(Path(f"{i}.mp4"), float(target), "test") for i, target in enumerate(truth))
    baseline = Baseline.of(Listing("classification", tuple(labels), examples))
    return Report(name, "classification", tuple(labels), (), {}, tuple(runs), examples, baseline)


def regression(truth: Sequence[float], *predicted: Sequence[float]) -> Report:
    """A report of one run for each list of predicted values; every movie has one window."""
    targets = torch.tensor(truth)
    runs = tuple(
        Run(
            f"run{number}/best",
            Predictions.from_windows(torch.tensor(values)[:, None], targets, torch.arange(len(truth)), "regression"),
        )
        for number, values in enumerate(predicted)
    )
    examples = tuple(Example(Path(f"{i}.mp4"), value, "test") for i, value in enumerate(truth))
    baseline = Baseline.of(Listing("regression", (), examples))
    return Report("values.csv", "regression", (), (), {}, runs, examples, baseline)
