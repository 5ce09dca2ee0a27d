"""The quality of models on a data set: the figures of each run, their mean and spread, and the confused classes."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vis4mer.config import Task
from vis4mer.training.data.listing import Example
from vis4mer.training.evaluation.baseline import Baseline
from vis4mer.training.evaluation.classes import ClassFigures, class_figures
from vis4mer.training.evaluation.intervals import Interval
from vis4mer.training.evaluation.metrics import Predictions, metric_name


@dataclass(frozen=True)
class Run:
    """The evaluation of one model.

    Attributes:
        checkpoint: Path of the model.
        predictions: Predictions of the model on the data set.
        seed: Seed of its training; None if the model has no record of it.
        as_published: Whether its epoch was chosen on the test split, as in the published code.
    """

    checkpoint: str
    predictions: Predictions
    seed: int | None = None
    as_published: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure of several runs.

    Attributes:
        mean: Mean over the runs.
        spread: Sample standard deviation over the runs; None for a single run.
    """

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: list[float]) -> "Figure":
        """Summarises one or more values."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Report:
    """The results of one or more runs on one data set.

    Attributes:
        name: Name of the data set, such as ``lvu/scene``.
        task: Task of the head.
        labels: Names of the classes, in the order of the evaluations' targets; empty for regression.
        missing: Names of the movies of the test split that do not exist.
        published: Published results by method, in the unit of the metric: accuracies in [0, 1].
        runs: Runs on the same movies, at least one.
        examples: Tested movies, in the order of the runs' predictions.
        baseline: The same prediction for every movie, and its figure.
    """

    name: str
    task: Task
    labels: tuple[str, ...]
    missing: tuple[str, ...]
    published: Mapping[str, float]
    runs: tuple[Run, ...]
    examples: tuple[Example, ...]
    baseline: Baseline

    @property
    def metric(self) -> Figure:
        """Accuracy of movies in [0, 1], or their mean squared error."""
        return Figure.of([run.predictions.metric for run in self.runs])

    @property
    def window_metric(self) -> Figure:
        """Accuracy of single windows in [0, 1], or their mean squared error."""
        return Figure.of([run.predictions.window_metric for run in self.runs])

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the metric of a single run; see `Predictions.interval`. None for several runs.

        Runs on the same movies are not independent samples; their spread shows how much the seed matters.
        """
        return self.runs[0].predictions.interval if len(self.runs) == 1 else None

    @property
    def movies(self) -> int:
        """Number of tested movies."""
        return len(self.examples)

    @property
    def windows(self) -> int:
        """Number of windows of the tested movies."""
        return int(self.runs[0].predictions.windows.sum())

    @property
    def as_published(self) -> bool:
        """Whether the epoch of any run was chosen on the test split."""
        return any(run.as_published for run in self.runs)

    def confusion(self) -> Tensor:
        """Counts movies by class (rows) and predicted class (columns) over all runs; int64 [C, C]."""
        classes = len(self.labels)
        cells = [run.predictions.targets.long() * classes + run.predictions.scores.argmax(1) for run in self.runs]
        return torch.bincount(torch.cat(cells), minlength=classes**2).reshape(classes, classes)

    def classes(self) -> list[ClassFigures]:
        """Returns the figures of every class over all runs; none for regression."""
        return class_figures(self.confusion(), self.labels, len(self.runs)) if self.labels else []

    def to_dict(self) -> dict[str, Any]:
        """Returns all figures, JSON-serialisable."""
        name = metric_name(self.task)
        return {
            "name": self.name,
            "task": self.task,
            "metric": name,
            name: {**vars(self.metric), "interval": self.interval},
            f"window_{name}": vars(self.window_metric),
            "baseline": {
                name: self.baseline.metric,
                "prediction": self.baseline.prediction,
                "split": self.baseline.split,
            },
            "movies": self.movies,
            "windows": self.windows,
            "missing": list(self.missing),
            "published": dict(self.published),
            "as_published": self.as_published,
            **self._class_dict(),
            "runs": [
                {
                    "checkpoint": run.checkpoint,
                    "seed": run.seed,
                    "as_published": run.as_published,
                    name: run.predictions.metric,
                    f"{name}_interval": run.predictions.interval,
                    f"window_{name}": run.predictions.window_metric,
                    "loss": run.predictions.loss,
                }
                for run in self.runs
            ],
        }

    def _class_dict(self) -> dict[str, Any]:
        if not self.labels:
            return {}
        return {
            "labels": list(self.labels),
            "confusion": self.confusion().tolist(),
            "classes": [figures.to_dict() for figures in self.classes()],
        }
