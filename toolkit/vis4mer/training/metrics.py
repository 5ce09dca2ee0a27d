"""From the outputs of windows to the figures of movies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from vis4mer.config import Task


def window_loss(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Computes the mean cross entropy, or the mean squared error for regression.

    Args:
        outputs: of the head, [B, d_output].
        targets: class indices or values, float32 [B].
        task: decides between the two.

    Returns:
        A scalar.
    """
    if task == "regression":
        return functional.mse_loss(outputs.squeeze(1), targets)
    return functional.cross_entropy(outputs, targets.long())


@dataclass(frozen=True)
class Evaluation:
    """How well a head predicts a data set.

    Attributes:
        task: of the head.
        scores: per movie, float64 [M, d_output]: for classification the mean of its windows' probabilities (their sum
            in the published protocol, with the same arg max), for regression the mean of their predictions.
        targets: per movie, float32 [M].
        loss: mean over all windows.
        window_metric: accuracy or mean squared error of windows, each taken by itself.
    """

    task: Task
    scores: Tensor
    targets: Tensor
    loss: float
    window_metric: float

    @property
    def metric(self) -> float:
        """Accuracy of the movies in [0, 1], or their mean squared error."""
        return _metric(self.scores, self.targets, self.task)

    @classmethod
    def from_windows(cls, outputs: Tensor, targets: Tensor, movies: Tensor, task: Task) -> "Evaluation":
        """Aggregates windows by movie.

        Args:
            outputs: of the head for all windows, [W, d_output].
            targets: of the windows' movies, float32 [W].
            movies: index of each window's movie, int64 [W]; every movie from 0 to the greatest has a window.
            task: of the head.
        """
        outputs = outputs.double()
        predictions = outputs if task == "regression" else outputs.softmax(1)
        counts = torch.bincount(movies).double()
        sums = torch.zeros(len(counts), outputs.shape[1], dtype=torch.float64).index_add_(0, movies, predictions)
        movie_targets = torch.zeros(len(counts)).index_copy_(0, movies, targets)
        loss = window_loss(outputs, targets.double(), task).item()
        return cls(task, sums / counts[:, None], movie_targets, loss, _metric(predictions, targets, task))

    def reordered(self, order: Sequence[int]) -> "Evaluation":
        """Renumbers the classes of a classification: class ``order[i]`` becomes class i."""
        places = torch.tensor(order)
        return replace(self, scores=self.scores[:, places], targets=places.argsort()[self.targets.long()].float())


def metric_name(task: Task) -> str:
    """Returns ``accuracy`` or ``mse``."""
    return "mse" if task == "regression" else "accuracy"


def _metric(scores: Tensor, targets: Tensor, task: Task) -> float:
    if task == "regression":
        return functional.mse_loss(scores.squeeze(1), targets.to(scores.dtype)).item()
    return (scores.argmax(1) == targets.long()).double().mean().item()
