"""The training loop of one head on cached tokens."""

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from vis4mer.errors import ConfigError, DataError
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.config import TrainConfig
from vis4mer.training.data import Movie, evaluation_windows, training_windows
from vis4mer.training.evaluate import evaluate
from vis4mer.training.metrics import metric_name, window_loss
from vis4mer.training.optim import build_optimizer, build_scheduler
from vis4mer.training.state import RunFolder

_LOG = logging.getLogger(__name__)

Record = dict[str, float]


class Trainer:
    """Trains one head of a model and keeps its best and its last epoch.

    Randomness (order, windows, dropout) is drawn anew in each epoch from the seed and the epoch's number, so a run
    that was stopped and resumed is, on a CPU, bit for bit the run that was not.

    Args:
        model: holds the head, and the encoder, which is saved with it but not trained.
        head: its name in the model.
        train: movies to learn from.
        val: movies that decide which epoch is best.
        config: how to train.
        folder: for what `vis4mer.training.state` describes; training goes on after the last whole epoch that it holds.
        device: to train the head on.

    Raises:
        DataError: a split is empty, or tokens or targets do not fit the model.
        ConfigError: the run that `folder` holds had other settings or data.
        CheckpointError: the state to resume from is damaged.
    """

    def __init__(
        self,
        model: Vis4mer,
        head: str,
        train: Sequence[Movie],
        val: Sequence[Movie],
        config: TrainConfig,
        folder: RunFolder,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_movies(model, head, train, "train")
        _check_movies(model, head, val, "val")
        self._model = model
        self._head = cast(S4Decoder, model.heads[head]).to(device)
        self._task = model.config.heads[head].task
        self._config = config
        self._device = torch.device(device)
        self._folder = folder
        self._train = training_windows(train, model.config, config.seed)
        self._val = evaluation_windows(val, model.config)
        self._optimizer = build_optimizer(self._head, config)
        self._steps = math.ceil(len(train) / config.batch_size)
        self._scheduler = build_scheduler(self._optimizer, config, self._task, self._steps)
        # What must not change between a run and its continuation; the number of epochs may.
        self._identity = {
            **{name: value for name, value in dataclasses.asdict(config).items() if name != "epochs"},
            "model": json.dumps(model.config.to_dict(), sort_keys=True),
            "data": _movies_digest(train, val),
        }
        self.history: list[Record] = []
        if folder.holds_run:
            self._load_state(folder.load_state())

    @property
    def best(self) -> Record:
        """Figures of the epoch with the best metric; among equals, which small data sets often give, the least loss."""
        name, sign = ("val_mse", -1) if self._task == "regression" else ("val_accuracy", 1)
        return max(self.history, key=lambda record: (sign * record[name], -record["val_loss"]))

    def run(
        self,
        *,
        on_step: Callable[[int, int], None] | None = None,
        on_epoch: Callable[[Record], None] | None = None,
    ) -> list[Record]:
        """Trains until all epochs are done.

        Args:
            on_step: told the number of steps that are done, and of all, after each.
            on_epoch: told each epoch's figures, once they and the models are on disk.

        Returns:
            The figures of all epochs, those before a resumption included: ``epoch``, ``lr``, ``train_loss``,
            ``val_loss``, ``val_accuracy`` or ``val_mse`` (of movies), the same with ``_window`` (of windows), and
            ``seconds``.

        Raises:
            ConfigError: the loss or its gradient is no longer finite.
            DataError: the models cannot be written, as on a full disk; the last whole epoch is on disk.
            KeyboardInterrupt: passed on; the last whole epoch is on disk.
        """
        while len(self.history) < self._config.epochs:
            begin = time.monotonic()
            lr = self._optimizer.param_groups[0]["lr"]
            train_loss = self._train_epoch(on_step)
            evaluation = evaluate(
                self._head, self._val, self._task, batch_size=self._config.batch_size, device=self._device
            )
            if isinstance(self._scheduler, ReduceLROnPlateau):
                self._scheduler.step(evaluation.metric)
            name = metric_name(self._task)
            self.history.append(
                {
                    "epoch": len(self.history) + 1,
                    "lr": lr,
                    "train_loss": train_loss,
                    "val_loss": evaluation.loss,
                    f"val_{name}": evaluation.metric,
                    f"val_window_{name}": evaluation.window_metric,
                    "seconds": round(time.monotonic() - begin, 3),
                }
            )
            try:
                self._save()
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"output={str(self._folder.path)!r}: cannot be written ({error}); make room and resume"
                ) from None
            if on_epoch:
                on_epoch(self.history[-1])
        return self.history

    def _train_epoch(self, on_step: Callable[[int, int], None] | None) -> float:
        epoch = len(self.history)
        torch.manual_seed(int(np.random.SeedSequence((self._config.seed, epoch)).generate_state(1)[0]))
        self._train.epoch = epoch
        self._head.train()
        total = 0.0
        for step, batch in enumerate(DataLoader(self._train, self._config.batch_size, shuffle=True), start=1):
            outputs = self._head(batch.features.to(self._device).float())
            loss = window_loss(outputs, batch.target.to(self._device), self._task)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self._head.parameters(), self._config.clip_norm)
            if not (loss + norm).isfinite():
                raise ConfigError(
                    f"lr={self._config.lr!r}, ssm_lr={self._config.ssm_lr!r}: loss {loss.item()} with gradient norm "
                    f"{norm.item()} in step {step} of epoch {epoch + 1}; lower the rates and start a new run"
                )
            self._optimizer.step()
            if not isinstance(self._scheduler, ReduceLROnPlateau):
                self._scheduler.step()
            total += loss.item() * len(batch.target)
            if on_step:
                on_step(epoch * self._steps + step, self._config.epochs * self._steps)
        return total / len(self._train)

    def _save(self) -> None:
        if self.best is self.history[-1]:
            self._folder.save_model(self._model, self._folder.best)
        self._folder.save_model(self._model, self._folder.last)
        self._folder.save_history(self.history)
        self._folder.save_state(
            {
                "identity": self._identity,
                "history": self.history,
                "head": self._head.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "scheduler": self._scheduler.state_dict(),
            }
        )

    def _load_state(self, state: Mapping[str, Any]) -> None:
        for name, value in self._identity.items():
            if state["identity"].get(name) != value:
                detail = (
                    f"is {value!r} now, was {state['identity'].get(name)!r}" if name in _SETTINGS else "has changed"
                )
                raise ConfigError(f"{name}: {detail} in the run that {str(self._folder.path)!r} holds; start a new one")
        self.history = state["history"]
        self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        _LOG.info("resuming after epoch %d", len(self.history))


_SETTINGS = {field.name for field in dataclasses.fields(TrainConfig)}


def _check_movies(model: Vis4mer, head: str, movies: Sequence[Movie], split: str) -> None:
    """Refuses what the head could not take, before the first step is spent."""
    if not movies:
        raise DataError(f"split={split!r}: holds no movie")
    config = model.config.heads[head]
    per_frame = model.config.encoder.tokens if model.config.encoder else movies[0].tokens.tokens
    wanted = (per_frame, config.decoder.d_input)
    for movie in movies:
        name, found = str(movie.tokens.path), (movie.tokens.tokens, movie.tokens.features)
        if found != wanted:
            raise DataError(
                f"tokens={name!r}: {found[0]} tokens of {found[1]} features a frame, but the model takes "
                f"{wanted[0]} of {wanted[1]}; use the cache of the model's encoder"
            )
        if config.task == "classification" and movie.target not in range(config.decoder.d_output):
            raise DataError(
                f"target={movie.target!r} of {name!r}: must be a class index below d_output={config.decoder.d_output}"
            )


def _movies_digest(*splits: Sequence[Movie]) -> str:
    """Digest of which movies (token files are named by their content's identity) stand for which targets."""
    facts = [[(movie.tokens.path.name, movie.tokens.frames, movie.target) for movie in movies] for movies in splits]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
