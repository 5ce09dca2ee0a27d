"""What a run leaves on disk after each epoch, each file replaced atomically.

``best/`` and ``last/`` are model folders as `vis4mer.models.vis4mer.Vis4mer.from_pretrained` reads them, with a record
of their training;
``history.jsonl`` has a line of figures per epoch; ``last/trainer.pt`` is the state to resume from. The state is
complete in itself and written last, so a run killed anywhere resumes from an epoch that was wholly written.
"""

import json
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vis4mer.errors import CheckpointError, ConfigError
from vis4mer.files import atomic_file
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.provenance import RECORD_FILE, training_facts


class RunFolder:
    """The output folder of one training run.

    Args:
        path: of the folder; created if need be.
        resume: whether to go on with the run that it holds, if it holds one.

    Attributes:
        path: of the folder.
        best: model folder of the epoch with the best validation.
        last: model folder of the last whole epoch.

    Raises:
        ConfigError: the folder holds a run and `resume` is not set, or cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.best = path / "best"
        self.last = path / "last"
        self._state = self.last / "trainer.pt"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"output={str(path)!r}: cannot be written ({error.strerror})") from None
        if self.holds_run and not resume:
            raise ConfigError(f"output={str(path)!r}: already holds a run; resume it or give another folder")

    @property
    def holds_run(self) -> bool:
        """Whether there is a state to resume from."""
        return self._state.exists()

    def save_model(self, model: Vis4mer, folder: Path, record: Mapping[str, Any]) -> None:
        """Replaces the model in `folder` (`best` or `last`), file by file: weights and record differ between epochs.

        Args:
            model: to save.
            folder: for it.
            record: of its training, as `vis4mer.training.provenance` describes it, with the epoch's ``figures``.
        """
        staging = self.path / ".staging"
        shutil.rmtree(staging, ignore_errors=True)  # left over where a save was killed
        model.save_pretrained(staging, model_card_kwargs={"training": list(training_facts(record))})
        (staging / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for file in staging.iterdir():
            file.replace(folder / file.name)
        staging.rmdir()

    def save_history(self, records: Sequence[Mapping[str, float]]) -> None:
        """Replaces the history."""
        with atomic_file(self.path / "history.jsonl") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records).encode())

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replaces the state to resume from: tensors, numbers, strings, lists and dictionaries of them."""
        with atomic_file(self._state) as file:
            torch.save(dict(state), file)

    def load_state(self) -> dict[str, Any]:
        """Reads what `save_state` wrote, onto the CPU.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"state={str(self._state)!r}: cannot be read ({reason}); start a new run") from None
        return state
