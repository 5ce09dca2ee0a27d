"""A run's figures as curves for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from vis4mer.errors import DataError, MissingDependencyError


class Curves:
    """Writes event files that TensorBoard shows while the run goes on.

    Args:
        folder: for the files of all parts of the run.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            rule = "is needed for --tensorboard; pip install 'vis4mer[train]'"
            raise MissingDependencyError(f"package='tensorboard': {rule}") from None
        self._folder, self._open = folder, SummaryWriter
        self._writer: SummaryWriter | None = None

    def add(self, record: Mapping[str, float]) -> None:
        """Adds the figures of an epoch; ``val_loss`` and the like are grouped by what stands before the first ``_``.

        Raises:
            DataError: the folder cannot be written, as on a full disk.
        """
        epoch = int(record["epoch"])
        try:
            if self._writer is None:
                # What a stopped part of the run wrote of this epoch and later ones is hidden.
                self._writer = self._open(str(self._folder), purge_step=epoch)
            for name, value in record.items():
                if name != "epoch":
                    self._writer.add_scalar(name.replace("_", "/", 1), value, epoch)
            self._writer.flush()
        except OSError as error:
            raise DataError(
                f"output={str(self._folder)!r}: cannot be written ({error}); make room and resume"
            ) from None
