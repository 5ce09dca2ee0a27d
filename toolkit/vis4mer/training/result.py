"""The result of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vis4mer.training.progress import EpochRecord


@dataclass(frozen=True)
class TrainingResult:
    """The result of `vis4mer.train`.

    Attributes:
        best: Model folder of the epoch with the best validation.
        last: Model folder of the last epoch.
        best_epoch: Figures of the best epoch.
        history: Figures of all epochs.
        skipped: File names of the movies that cannot be read and were left out.
    """

    best: Path
    last: Path
    best_epoch: EpochRecord
    history: tuple[EpochRecord, ...]
    skipped: tuple[str, ...] = ()


def best_epoch(history: Sequence[EpochRecord]) -> EpochRecord:
    """Returns the figures of the epoch with the best validation metric; ties go to the lowest loss, then the first.

    Args:
        history: Figures of at least one epoch.
    """
    # max returns the first of equal records, so an epoch replaces the best one only if it improves on it.
    return max(history, key=_merit)


def _merit(record: EpochRecord) -> tuple[float, float]:
    metric = record["val_accuracy"] if "val_accuracy" in record else -record["val_mse"]
    return metric, -record["val_loss"]
