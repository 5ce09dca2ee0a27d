"""The files that a run writes after each epoch, each replaced atomically.

``best/`` and ``last/`` are model folders, which `vis4mer.models.vis4mer.Vis4mer.from_pretrained` reads, with a record
of their training. ``history.jsonl`` has a line of figures per epoch. ``last/trainer.pt`` is the state to resume from.
The state is complete in itself and written last, so a run that is killed at any time resumes from an epoch that was
written completely.
"""

import dataclasses
import io
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vis4mer.config import ModelConfig
from vis4mer.errors import CheckpointError, ConfigError, DataError
from vis4mer.files import atomic_file
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.text import first_line
from vis4mer.training.config import TrainConfig
from vis4mer.training.fit.state_check import state_problem
from vis4mer.training.provenance import RECORD_FILE, training_facts
from vis4mer.training.result import HISTORY_FILE
from vis4mer.training.settings import SETTINGS_FILE

_CONTINUE = "pass --resume (in Python resume=True) to continue it, or choose another folder"
_HYPERPARAMETERS = {field.name for field in dataclasses.fields(TrainConfig)}


def run_identity(config: TrainConfig, model: ModelConfig) -> dict[str, Any]:
    """Returns what must not change when a run is resumed, apart from its data; the number of epochs may."""
    hyperparameters = dataclasses.asdict(config)
    del hyperparameters["epochs"]
    return {**hyperparameters, "model": json.dumps(model.to_dict(), sort_keys=True)}


class RunFolder:
    """The output folder of one training run.

    Args:
        path: Path of the folder, which is created if it does not exist.
        resume: Whether to continue the run that the folder holds, if it holds one.

    Attributes:
        path: Path of the folder.
        best: Model folder of the epoch with the best validation.
        last: Model folder of the last complete epoch.
        state_file: State to resume from, in `last`.

    Raises:
        ConfigError: The folder holds a run and `resume` is not set, or the folder cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.best = path / "best"
        self.last = path / "last"
        self.state_file = self.last / "trainer.pt"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError.of("output", path, f"cannot be written ({error.strerror})") from None
        if self.holds_run and not resume:
            raise ConfigError.of("output", path, "already holds a run", _CONTINUE)

    @property
    def holds_run(self) -> bool:
        """Whether there is a state to resume from."""
        return self.state_file.exists()

    def check_space(self, model: Vis4mer, head: nn.Module) -> None:
        """Checks that the disk has room for the files of each epoch.

        Args:
            model: Model that is saved as best and as last.
            head: Head whose weights and optimiser state make up the state to resume from.

        Raises:
            DataError: The disk has too little room.
        """
        model_bytes = _n_bytes(model)
        state_bytes = 3 * _n_bytes(head)  # the weights, and AdamW's two moments of each
        # While a file is replaced, the old and the new one exist. A new run lacks all of them, a resumed one has them.
        needed = 3 * model_bytes + 2 * state_bytes
        if self.holds_run:
            needed = model_bytes + state_bytes
        free = shutil.disk_usage(self.path).free
        if free < needed:
            rule = f"{free / 1e6:.0f} MB are free, but models and training state need {needed / 1e6:.0f} MB"
            raise DataError.of("output", self.path, rule, "free some space or choose another folder")

    def resumable_state(self, identity: Mapping[str, Any], epochs: int) -> dict[str, Any] | None:
        """Reads the state of the run in this folder; returns None if there is none.

        Args:
            identity: Identity of the run that continues it: hyperparameters, model and data by name, all or some.
            epochs: Number of epochs of that run.

        Raises:
            CheckpointError: The state is damaged.
            ConfigError: The run in the folder has another identity, or has completed more epochs.
        """
        if not self.holds_run:
            return None
        state = self.load_state()
        self._check_identity(state["identity"], identity)
        done = len(state["history"])
        if epochs < done:
            rule = f"the run that {str(self.path)!r} holds has completed {done}"
            raise ConfigError.of("epochs", epochs, rule, f"set at least {done}, or start a new run")
        return state

    def _check_identity(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name, value in now.items():
            if before.get(name) != value:
                run = f"the run that {str(self.path)!r} holds"
                if name in _HYPERPARAMETERS:
                    raise ConfigError.of(name, value, f"is {before.get(name)!r} in {run}", "start a new run")
                # The model's JSON and the data's digest are too long to compare by eye.
                raise ConfigError(f"{name}: has changed since the start of {run}; start a new run")

    def save_settings(self, text: str) -> None:
        """Replaces the settings of the run.

        Args:
            text: Settings as YAML.
        """
        with atomic_file(self.path / SETTINGS_FILE) as file:
            file.write(text.encode())

    def save_model(self, model: Vis4mer, folder: Path, record: Mapping[str, Any]) -> None:
        """Replaces the model in a folder, file by file.

        Args:
            model: Model to save.
            folder: Either `best` or `last`.
            record: Record of the model's training; see `vis4mer.training.provenance`. Its ``figures`` are those of the
                epoch.
        """
        # The staging folder is on the same file system, so each rename is atomic. The files move one by one, because a
        # folder cannot replace another that is not empty.
        staging = self.path / ".staging"
        shutil.rmtree(staging, ignore_errors=True)  # A process that was killed while saving leaves it behind.
        try:
            model.save_pretrained(staging, model_card_kwargs={"training": list(training_facts(record))})
            (staging / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            folder.mkdir(exist_ok=True)
            for file in staging.iterdir():
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def save_history(self, records: Sequence[Mapping[str, float]]) -> None:
        """Replaces the history of all epochs."""
        # The file is replaced rather than appended to, because a resumed run may repeat its last epoch.
        with atomic_file(self.path / HISTORY_FILE) as file:
            file.write("".join(json.dumps(record) + "\n" for record in records).encode())

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replaces the state to resume from: tensors, numbers, texts, and lists and dictionaries of them."""
        # Serialised in memory first: PyTorch's writer reports a failing disk as an error of its own.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        with atomic_file(self.state_file) as file:
            file.write(buffer.getbuffer())

    def load_state(self) -> dict[str, Any]:
        """Reads the state that `save_state` wrote, onto the CPU.

        Raises:
            CheckpointError: The file is damaged.
        """
        try:
            # The folder may come from another machine; weights_only keeps its pickle from running code.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch warns of unusual files before it refuses them
                state: dict[str, Any] = torch.load(self.state_file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged pickle can raise any exception
            raise self.unusable(f"cannot be read ({first_line(error)})") from None
        if problem := state_problem(state):
            raise self.unusable(problem)
        return state

    def unusable(self, rule: str) -> CheckpointError:
        """Returns the error of a state that cannot be resumed from."""
        return CheckpointError.of("state", self.state_file, rule, "start a new run")


def _n_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())
