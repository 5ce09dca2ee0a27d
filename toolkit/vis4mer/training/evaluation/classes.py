"""Figures of single classes: how many of its movies a model finds, and how many of its answers are right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vis4mer.training.evaluation.intervals import Interval, share_interval


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class.

    Attributes:
        label: Name of the class.
        movies: Number of its tested movies.
        n_correct: Number of them that were recognised, summed over the runs.
        recall: Share of its movies that were recognised, in [0, 1]; None without movies.
        recall_interval: Interval of the recall; None without movies, and for several runs, whose answers about one
            movie are not independent.
        precision: Share of its predictions that are correct, in [0, 1]; None if it was never predicted.
        mistaken_for: Name of the class that its other movies were most often taken for; None if there are none.
    """

    label: str
    movies: int
    n_correct: int
    recall: float | None
    recall_interval: Interval | None
    precision: float | None
    mistaken_for: str | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures, JSON-serialisable."""
        return dict(vars(self))


def class_figures(confusion: Tensor, labels: Sequence[str], n_runs: int) -> list[ClassFigures]:
    """Returns the figures of every class.

    Args:
        confusion: Counts of movies by class (rows) and predicted class (columns) over all runs, int64 [C, C].
        labels: Names of the classes.
        n_runs: Number of runs.
    """
    rows = confusion.tolist()
    predicted = confusion.sum(0).tolist()
    figures = []
    for index, (label, row) in enumerate(zip(labels, rows, strict=True)):
        n_correct, total = row[index], sum(row)
        mistakes = [count if column != index else 0 for column, count in enumerate(row)]
        figures.append(
            ClassFigures(
                label=label,
                movies=total // n_runs,
                n_correct=n_correct,
                recall=n_correct / total if total else None,
                recall_interval=share_interval(n_correct, total) if n_runs == 1 else None,
                precision=n_correct / predicted[index] if predicted[index] else None,
                mistaken_for=labels[mistakes.index(max(mistakes))] if any(mistakes) else None,
            )
        )
    return figures
