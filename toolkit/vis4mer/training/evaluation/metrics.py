"""Losses and metrics: from the outputs for windows to the predictions of movies and their figures."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vis4mer.config import Task
from vis4mer.training.evaluation.intervals import Interval, mean_interval, share_interval


def window_loss(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Computes the mean cross-entropy for classification, or the mean squared error for regression.

    Args:
        outputs: Outputs of the head, [B, d_output].
        targets: Class indices or values, float32 [B].
        task: Task of the head.

    Returns:
        A scalar.
    """
    if task == "regression":
        return functional.mse_loss(outputs.squeeze(1), targets)
    return functional.cross_entropy(outputs, targets.long())


@dataclass(frozen=True)
class Predictions:
    """The predictions of a head for a data set, and their quality.

    Attributes:
        task: Task of the head.
        scores: Score of each movie, float64 [M, d_output]. For classification, it is the mean of its windows'
            probabilities; the published protocol takes their sum, which has the same arg max. For regression, it is the
            mean of its windows' values.
        targets: Class index or value of each movie, float32 [M].
        windows: Number of windows of each movie, int64 [M].
        loss: Mean loss over all windows.
        window_metric: Accuracy or mean squared error of single windows.
    """

    task: Task
    scores: Tensor
    targets: Tensor
    windows: Tensor
    loss: float
    window_metric: float

    @property
    def metric(self) -> float:
        """Accuracy of the movies in [0, 1], or their mean squared error."""
        return _metric(self.scores, self.targets, self.task)

    @property
    def interval(self) -> Interval | None:
        """95 % interval of `metric`: Wilson's of the accuracy, the bootstrap's of the mean squared error.

        It is None for the error of fewer than ten movies, and for equal errors.
        """
        if self.task == "regression":
            return mean_interval(((self.scores.squeeze(1) - self.targets) ** 2).tolist())
        return share_interval(int((self.scores.argmax(1) == self.targets).sum()), len(self.targets))

    @classmethod
    def from_windows(cls, outputs: Tensor, targets: Tensor, movies: Tensor, task: Task) -> "Predictions":
        """Aggregates the windows of each movie.

        Args:
            outputs: Outputs of the head for all windows, [W, d_output].
            targets: Targets of the windows' movies, float32 [W].
            movies: Index of each window's movie, int64 [W]; every movie from 0 to the greatest index has a window.
            task: Task of the head.
        """
        outputs = outputs.double()
        predictions = outputs if task == "regression" else outputs.softmax(1)
        counts = torch.bincount(movies)
        sums = torch.zeros(len(counts), outputs.shape[1], dtype=torch.float64).index_add_(0, movies, predictions)
        movie_targets = torch.zeros(len(counts)).index_copy_(0, movies, targets)
        loss = window_loss(outputs, targets.double(), task).item()
        window_metric = _metric(predictions, targets, task)
        return cls(task, sums / counts[:, None], movie_targets, counts, loss, window_metric)


def metric_name(task: Task) -> str:
    """Returns the name of a task's metric: ``accuracy`` or ``mse``."""
    return "mse" if task == "regression" else "accuracy"


def _metric(scores: Tensor, targets: Tensor, task: Task) -> float:
    if task == "regression":
        return functional.mse_loss(scores.squeeze(1), targets.to(scores.dtype)).item()
    return (scores.argmax(1) == targets.long()).double().mean().item()
