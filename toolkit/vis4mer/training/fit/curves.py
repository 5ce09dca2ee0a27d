"""Curves of a run's figures for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from vis4mer.errors import DataError
from vis4mer.packages import missing


class Curves:
    """Writes event files, which TensorBoard shows while the run continues.

    Args:
        folder: Folder for the files of the run, including those of its resumptions.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise missing("tensorboard", "for curves", "train") from None
        self._folder, self._open = folder, SummaryWriter
        self._writer: SummaryWriter | None = None

    def add(self, record: Mapping[str, float]) -> None:
        """Adds the figures of an epoch; TensorBoard groups them by the part of the name before the first ``_``.

        Raises:
            DataError: The folder cannot be written, for example on a full disk.
        """
        epoch = int(record["epoch"])
        try:
            if self._writer is None:
                # An interrupted part of the run may have written this epoch and later ones, which are then hidden.
                self._writer = self._open(str(self._folder), purge_step=epoch)
            for name, value in record.items():
                if name != "epoch":
                    self._writer.add_scalar(name.replace("_", "/", 1), value, epoch)
            self._writer.flush()
        except OSError as error:
            rule = f"cannot be written ({error})"
            raise DataError.of("output", self._folder, rule, "free some space and resume the run") from None
