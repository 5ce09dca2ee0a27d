"""The line that `vis4mer train` prints for each epoch."""

from collections.abc import Iterator, Sequence

from vis4mer.training.progress import EpochRecord

_GAP = "  "
_MARK = "best"


def epoch_line(record: EpochRecord, n_epochs: int, width: int, *, is_best: bool = False) -> str:
    """Returns an epoch's figures as one line, with fewer of them where it would not fit.

    Args:
        record: Figures of the epoch; see `vis4mer.training.fit.loop.Trainer.run`.
        n_epochs: Number of epochs of the run.
        width: Width of the terminal, in characters.
        is_best: Whether to mark the epoch as the best so far.
    """
    line = ""
    for parts in _choices(record, n_epochs):
        line = _GAP.join(parts)
        # Every line is measured with the mark, so that all epochs show the same figures.
        if len(line) + len(_GAP) + len(_MARK) <= width:
            break
    return f"{line}{_GAP}{_MARK}" if is_best else line


def _choices(record: EpochRecord, n_epochs: int) -> Iterator[Sequence[str]]:
    """Yields the parts of the line, fewer each time."""
    epoch = f"epoch {record['epoch']:>{len(str(n_epochs))}.0f} of {n_epochs}"
    train_loss, val_loss = (f"{name} loss {_number(record[f'{name}_loss'])}" for name in ("train", "val"))
    metric = (
        f"accuracy {record['val_accuracy']:.1%}" if "val_accuracy" in record else f"MSE {_number(record['val_mse'])}"
    )
    yield epoch, train_loss, val_loss, f"val {metric}"
    yield epoch, val_loss, f"val {metric}"
    yield epoch, metric


def _number(value: float) -> str:
    """Formats a number with four significant digits, trailing zeros included."""
    return f"{value:#.4g}".removesuffix(".")
