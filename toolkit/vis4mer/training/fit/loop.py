"""The training loop of one head on cached tokens."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from vis4mer.errors import ConfigError, DataError, DeviceError
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.placement import to_device
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.models.weights import fill
from vis4mer.training.config import TrainConfig
from vis4mer.training.distributed import ALONE, BatchShares, Processes
from vis4mer.training.evaluation.inference import autocast, predict_windows
from vis4mer.training.evaluation.metrics import metric_name, window_loss
from vis4mer.training.fit.optim import build_optimizer, build_scheduler, restore_schedule
from vis4mer.training.fit.state import RunFolder, run_identity
from vis4mer.training.fit.state_check import optimizer_problem, scheduler_problem
from vis4mer.training.progress import EpochRecord
from vis4mer.training.provenance import Origin, training_record
from vis4mer.training.result import best_epoch
from vis4mer.training.tokens.windows import (
    TrainingMovie,
    check_movies,
    evaluation_windows,
    movies_digest,
    training_windows,
)

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one head of a model and keeps the models of the best and the last epoch.

    Each epoch seeds its randomness (order, windows, dropout) from the seed and its own number. On a CPU, a run that was
    stopped and resumed is therefore bit-identical to an uninterrupted run.

    Several processes share every batch so that its gradient equals that of a single process, except for dropout, which
    each process draws for itself.

    Args:
        model: Model that holds the head, and the encoder, which is saved with it but not trained.
        head: Name of the head.
        train: Movies to learn from.
        val: Movies that decide which epoch is best.
        config: Hyperparameters.
        folder: Folder of the run; training continues after the last complete epoch that it holds.
        device: Device to train the head on.
        loader_workers: Processes that read tokens; 0 reads them in this process.
        processes: Processes that train together; only the main one writes to the folder.
        origin: Origin of the run, for the models' record of their training.

    Raises:
        DataError: A split is empty, tokens or targets do not fit the model, processes have different movies, or the
            disk has too little room for the models.
        ConfigError: The run in `folder` has other settings or data.
        DeviceError: PyTorch cannot use the device.
        CheckpointError: The state to resume from is damaged.
    """

    def __init__(
        self,
        model: Vis4mer,
        head: str,
        train: Sequence[TrainingMovie],
        val: Sequence[TrainingMovie],
        config: TrainConfig,
        folder: RunFolder,
        *,
        device: torch.device | str = "cpu",
        loader_workers: int = 0,
        processes: Processes = ALONE,
        origin: Origin | None = None,
    ) -> None:
        origin = origin or Origin()
        # An error in one process alone would leave the others waiting for it in the next exchange.
        with processes.together():
            check_movies(train, "train", model.config, head)
            check_movies(val, origin.chosen_on, model.config, head)
        # Each process picks its share of the movies by their indices.
        facts = [[(movie.token_file.n_frames, movie.target) for movie in movies] for movies in (train, val)]
        processes.check_same(facts, "movies")
        self._model = model
        self._head = to_device(cast(S4Decoder, model.heads[head]), str(device))
        self._task = model.config.heads[head].task
        self._config = config
        self._device = torch.device(device)
        self._folder = folder
        self._processes = processes
        self._val = evaluation_windows(val, model.config)
        self._train = training_windows(train, model.config, config.seed)
        self._shares = BatchShares(len(train), config.batch_size, processes)
        self._loader_workers = loader_workers
        self._optimizer = build_optimizer(self._head, config)
        self._scheduler = build_scheduler(self._optimizer, config, self._task, len(self._shares))
        digest = movies_digest(train, val)
        self._identity = {**run_identity(config, model.config), "data": digest}
        data = {"sha256": digest, "train": len(train), origin.chosen_on: len(val)}
        self._record = training_record(origin, data, config, processes.count)
        self.history: list[EpochRecord] = []
        self._resume()
        # DistributedDataParallel copies the main process' parameters to all others when it is created, so it is created
        # after the resumed ones are in place.
        self._parallel = processes.parallel(self._head)

    @property
    def best(self) -> EpochRecord:
        """Figures of the epoch with the best metric; see `vis4mer.training.result.best_epoch`."""
        return best_epoch(self.history)

    def run(
        self,
        *,
        on_step: Callable[[int, int], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> list[EpochRecord]:
        """Trains until all epochs are done.

        Args:
            on_step: Callback after each step, with the number of finished steps and of all steps.
            on_epoch: Callback with each epoch's figures, after they and the models were written.

        Returns:
            The figures of all epochs, those before a resumption included: ``epoch``, ``lr``, ``train_loss``,
            ``val_loss``, ``val_accuracy`` or ``val_mse`` of movies, ``val_window_accuracy`` or ``val_window_mse`` of
            windows, and ``seconds``.

        Raises:
            ConfigError: The loss or its gradient is no longer finite.
            DataError: The models cannot be written, for example on a full disk. The last complete epoch is on disk.
            DeviceError: The device lacks the memory for a step.
            KeyboardInterrupt: The user interrupted the run. The last complete epoch is on disk.
        """
        while len(self.history) < self._config.epochs:
            begin = time.monotonic()
            lr = self._optimizer.param_groups[0]["lr"]
            try:
                train_loss = self._train_epoch(on_step)
                figures = self._validate()
            except torch.OutOfMemoryError:
                rule = f"{self._device} has too little memory for a step with this many windows"
                remedy = "lower it, or use precision bf16"
                raise DeviceError.of("batch_size", self._config.batch_size, rule, remedy) from None
            seconds = round(time.monotonic() - begin, 3)
            epoch = len(self.history) + 1
            self.history.append({"epoch": epoch, "lr": lr, "train_loss": train_loss, **figures, "seconds": seconds})
            # The other processes wait in their next exchange. If saving fails, the main process ends and torchrun ends
            # them.
            if self._processes.is_main:
                self._save()
            if on_epoch:
                on_epoch(self.history[-1])
        return self.history

    def _train_epoch(self, on_step: Callable[[int, int], None] | None) -> float:
        """Takes the steps of one epoch; returns the mean loss of its windows."""
        epoch, n_steps = len(self.history), len(self._shares)
        # SeedSequence mixes the two numbers; their sum would give seed 0, epoch 1 the randomness of seed 1, epoch 0.
        # All processes get the same state, from which `BatchShares` draws the same order in each of them.
        torch.manual_seed(int(np.random.SeedSequence((self._config.seed, epoch)).generate_state(1)[0]))
        # Loader workers copy the data set when they start, so the epoch is set first and every epoch has a new loader.
        self._train.epoch = epoch
        self._head.train()
        pinned = self._device.type == "cuda"
        batches = DataLoader(
            self._train, batch_sampler=self._shares, num_workers=self._loader_workers, pin_memory=pinned
        )
        total_loss = 0.0
        for step, batch in enumerate(batches):
            n_own = self._shares.own(step)
            with autocast(self._device, self._config.precision):
                outputs = self._parallel(batch.features.to(self._device, non_blocking=True).float())
            # Under autocast the outputs are bf16, which is too coarse for a loss.
            loss = window_loss(outputs.float(), batch.target.to(self._device), self._task)
            # DistributedDataParallel averages the processes' gradients. With this weight, the average of the processes'
            # losses is the mean over the windows of the whole batch, however unevenly they are shared.
            weight = n_own * self._processes.count / self._shares.size(step)
            self._update(loss, weight, step)
            # A process without a share has n_own = 0: its stand-in item counts neither here nor in the gradient.
            total_loss += loss.item() * n_own
            if on_step:
                on_step(epoch * n_steps + step + 1, self._config.epochs * n_steps)
        return sum(self._processes.gather(total_loss)) / len(self._train)

    def _update(self, loss: Tensor, weight: float, step: int) -> None:
        """Takes one step of the optimiser.

        Args:
            loss: Scalar, the mean loss of this process' windows.
            weight: Factor of the loss.
            step: Index of the step in its epoch.

        Raises:
            ConfigError: The loss or its gradient is not finite.
        """
        self._optimizer.zero_grad()
        (loss * weight).backward()  # type: ignore[no-untyped-call]
        # The backward pass has already averaged the gradients over the processes, so all of them clip by the same norm.
        norm = nn.utils.clip_grad_norm_(self._head.parameters(), self._config.clip_norm)
        # Checked before the step, so that neither the parameters nor a saved model ever hold NaN. The sum needs one
        # transfer from the GPU instead of two.
        if not (loss + norm).isfinite():
            raise ConfigError.of(
                "lr",
                self._config.lr,
                f"with ssm_lr={self._config.ssm_lr!r}, the loss is {loss.item()} and its gradient's norm {norm.item()} "
                f"in step {step + 1} of epoch {len(self.history) + 1}",
                "lower both rates and start a new run",
            )
        self._optimizer.step()
        if not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()

    def _validate(self) -> EpochRecord:
        predictions = predict_windows(
            self._head,
            self._val,
            self._task,
            batch_size=self._config.batch_size,
            device=self._device,
            precision=self._config.precision,
            loader_workers=self._loader_workers,
            processes=self._processes,
        )
        # Every process has the predictions of all windows, so the schedules stay equal without an exchange.
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(predictions.metric)
        name = metric_name(self._task)
        return {
            "val_loss": predictions.loss,
            f"val_{name}": predictions.metric,
            f"val_window_{name}": predictions.window_metric,
        }

    def _save(self) -> None:
        record = {**self._record, "figures": self.history[-1]}
        try:
            if self.best is self.history[-1]:
                self._folder.save_model(self._model, self._folder.best, record)
            self._folder.save_model(self._model, self._folder.last, record)
            self._folder.save_history(self.history)
            # The state comes last: until it is replaced, a resumed run repeats this epoch, to the same files.
            self._folder.save_state(
                {
                    "identity": self._identity,
                    "epochs": self._config.epochs,
                    "history": self.history,
                    "head": self._head.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "scheduler": self._scheduler.state_dict(),
                }
            )
        except (OSError, SafetensorError) as error:
            rule = f"cannot be written ({error})"
            raise DataError.of("output", self._folder.path, rule, "free some space and resume the run") from None

    def _resume(self) -> None:
        """Continues the run in the folder, in all processes, including those on machines without that folder."""
        state: Mapping[str, Any] | None = None
        # An unusable state must end all processes before they wait for it in `from_main`.
        with self._processes.together():
            if self._processes.is_main:
                self._folder.check_space(self._model, self._head)
                state = self._folder.resumable_state(self._identity, self._config.epochs)
        state = self._processes.from_main(state)
        if state is None:
            return
        with self._processes.together():
            self._restore(state)
        epochs, before = self._config.epochs, state.get("epochs")  # earlier versions did not store it
        logger.info("resuming after epoch %d of %d", len(self.history), epochs)
        if before not in (None, epochs) and self._config.schedule == "cosine":
            logger.warning(
                "the run was begun with epochs=%d and continues with %d: from here on, its learning rates are those of "
                "%d epochs",
                before,
                epochs,
                epochs,
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of the run in the folder, once all of it has been checked.

        Raises:
            CheckpointError: The state does not fit this run.
        """
        problem = optimizer_problem(state["optimizer"], self._optimizer)
        if problem := problem or scheduler_problem(state["scheduler"], self._scheduler.state_dict()):
            raise self._folder.unusable(problem)
        fill(self._head, state["head"], self._folder.state_file)
        self.history = state["history"]
        self._optimizer.load_state_dict(state["optimizer"])
        restore_schedule(self._scheduler, state["scheduler"])
