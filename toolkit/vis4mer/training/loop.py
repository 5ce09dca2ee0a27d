"""The training loop of one head on cached tokens."""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from vis4mer.errors import ConfigError, DataError, DeviceError
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.checks import check_movies, check_resumed, check_same, check_space
from vis4mer.training.config import TrainConfig
from vis4mer.training.data import Movie, evaluation_windows, training_windows
from vis4mer.training.distributed import ALONE, BatchShares, Processes
from vis4mer.training.evaluate import autocast, evaluate
from vis4mer.training.metrics import metric_name, window_loss
from vis4mer.training.optim import build_optimizer, build_scheduler
from vis4mer.training.provenance import Origin, movies_digest, training_record
from vis4mer.training.state import RunFolder

_LOG = logging.getLogger(__name__)

Record = dict[str, float]


class Trainer:
    """Trains one head of a model and keeps its best and its last epoch.

    Randomness (order, windows, dropout) is drawn anew in each epoch from the seed and the epoch's number, so a run
    that was stopped and resumed is, on a CPU, bit for bit the run that was not.

    Several processes share every batch in such a way that its gradient is that of a single process, but for dropout,
    which each draws for itself.

    Args:
        model: holds the head, and the encoder, which is saved with it but not trained.
        head: its name in the model.
        train: movies to learn from.
        val: movies that decide which epoch is best.
        config: how to train.
        folder: for what `vis4mer.training.state` describes; training goes on after the last whole epoch that it holds.
        device: to train the head on.
        workers: processes that read tokens; with 0, this one reads them.
        processes: that train together; the main one alone writes to the folder.
        origin: for the models' record of their training.

    Raises:
        DataError: a split is empty, tokens or targets do not fit the model, processes have different movies, or the
            disk has no room for the models.
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
        workers: int = 0,
        processes: Processes = ALONE,
        origin: Origin | None = None,
    ) -> None:
        origin = origin or Origin()
        with processes.together():
            check_movies(model, head, train, "train")
            check_movies(model, head, val, origin.chosen_on)
        check_same(processes, train, val)
        self._model = model
        self._head = cast(S4Decoder, model.heads[head]).to(device)
        self._task = model.config.heads[head].task
        self._config = config
        self._device = torch.device(device)
        self._folder = folder
        self._processes = processes
        self._val = evaluation_windows(val, model.config)
        self._train = training_windows(train, model.config, config.seed)
        self._shares = BatchShares(len(train), config.batch_size, processes)
        self._workers = workers
        self._optimizer = build_optimizer(self._head, config)
        self._scheduler = build_scheduler(self._optimizer, config, self._task, len(self._shares))
        digest = movies_digest(train, val)
        # What must not change between a run and its continuation; the number of epochs may.
        self._identity = {
            **{name: value for name, value in dataclasses.asdict(config).items() if name != "epochs"},
            "model": json.dumps(model.config.to_dict(), sort_keys=True),
            "data": digest,
        }
        data = {"sha256": digest, "train": len(train), origin.chosen_on: len(val)}
        self._record = training_record(origin, data, config, processes.count)
        self.history: list[Record] = []
        self._resume()
        self._parallel = processes.parallel(self._head)

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
            DeviceError: the device lacks the memory for a step.
            KeyboardInterrupt: passed on; the last whole epoch is on disk.
        """
        while len(self.history) < self._config.epochs:
            begin = time.monotonic()
            lr = self._optimizer.param_groups[0]["lr"]
            try:
                train_loss = self._train_epoch(on_step)
                figures = self._validate()
            except torch.OutOfMemoryError:
                rule = f"{self._device} lacks the memory for a step of so many windows; lower it"
                raise DeviceError(f"batch_size={self._config.batch_size}: {rule}, or use precision bf16") from None
            seconds = round(time.monotonic() - begin, 3)
            epoch = len(self.history) + 1
            self.history.append({"epoch": epoch, "lr": lr, "train_loss": train_loss, **figures, "seconds": seconds})
            if self._processes.is_main:
                self._save()
            if on_epoch:
                on_epoch(self.history[-1])
        return self.history

    def _train_epoch(self, on_step: Callable[[int, int], None] | None) -> float:
        epoch, steps = len(self.history), len(self._shares)
        torch.manual_seed(int(np.random.SeedSequence((self._config.seed, epoch)).generate_state(1)[0]))
        self._train.epoch = epoch
        self._head.train()
        pinned = self._device.type == "cuda"
        batches = DataLoader(self._train, batch_sampler=self._shares, num_workers=self._workers, pin_memory=pinned)
        total = 0.0
        for step, batch in enumerate(batches):
            own, size = self._shares.own(step), self._shares.size(step)
            with autocast(self._device, self._config.precision):
                outputs = self._parallel(batch.features.to(self._device, non_blocking=True).float())
            loss = window_loss(outputs.float(), batch.target.to(self._device), self._task)
            self._optimizer.zero_grad()
            # The processes' gradients are averaged: this makes their mean that of the whole batch.
            (loss * (own * self._processes.count / size)).backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self._head.parameters(), self._config.clip_norm)
            if not (loss + norm).isfinite():
                raise ConfigError(
                    f"lr={self._config.lr!r}, ssm_lr={self._config.ssm_lr!r}: loss {loss.item()} with gradient norm "
                    f"{norm.item()} in step {step + 1} of epoch {epoch + 1}; lower the rates and start a new run"
                )
            self._optimizer.step()
            if not isinstance(self._scheduler, ReduceLROnPlateau):
                self._scheduler.step()
            total += loss.item() * own
            if on_step:
                on_step(epoch * steps + step + 1, self._config.epochs * steps)
        return sum(self._processes.gather(total)) / len(self._train)

    def _validate(self) -> Record:
        evaluation = evaluate(
            self._head,
            self._val,
            self._task,
            batch_size=self._config.batch_size,
            device=self._device,
            precision=self._config.precision,
            workers=self._workers,
            processes=self._processes,
        )
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(evaluation.metric)
        name = metric_name(self._task)
        return {
            "val_loss": evaluation.loss,
            f"val_{name}": evaluation.metric,
            f"val_window_{name}": evaluation.window_metric,
        }

    def _save(self) -> None:
        record = {**self._record, "figures": self.history[-1]}
        try:
            if self.best is self.history[-1]:
                self._folder.save_model(self._model, self._folder.best, record)
            self._folder.save_model(self._model, self._folder.last, record)
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
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"output={str(self._folder.path)!r}: cannot be written ({error}); make room and resume"
            ) from None

    def _resume(self) -> None:
        """Takes up the run that the folder holds; in all processes, whether or not they see that folder."""
        state: Mapping[str, Any] | None = None
        with self._processes.together():
            if self._processes.is_main:
                check_space(self._folder, self._model, self._head)
                if self._folder.holds_run:
                    state = self._folder.load_state()
                    check_resumed(self._folder, state["identity"], self._identity)
        state = self._processes.from_main(state)
        if state is None:
            return
        self.history = state["history"]
        self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        _LOG.info("resuming after epoch %d", len(self.history))
