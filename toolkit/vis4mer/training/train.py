"""`vis4mer.train`: from a data set to a trained model."""

from collections.abc import Callable
from pathlib import Path

from vis4mer.devices.device import Device, parse_device
from vis4mer.packages import require
from vis4mer.training.data.dataset import plan_training
from vis4mer.training.launch import one_error_per_machine
from vis4mer.training.progress import EpochRecord, Progress, ignore_progress
from vis4mer.training.result import TrainingResult
from vis4mer.training.settings import TrainSettings


def train(
    settings: TrainSettings,
    output: Path | str,
    *,
    cache: Path | str | None = None,
    resume: bool = False,
    device: str | Device = "auto",
    loader_workers: int = 0,
    tensorboard: bool = False,
    command: str = "",
    progress: Progress = ignore_progress,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """Trains a head on a data set.

    Every movie is encoded once; the cache keeps its tokens. `output` receives ``best/`` and ``last/``
    (model folders that `vis4mer.load` opens), ``history.jsonl`` and ``settings.yaml``; all are replaced after each
    epoch, except for the settings. On a CPU, the same settings train bit-identical models.

    Under torchrun, the processes that it started share each step's windows.

    Args:
        settings: Data set, encoder, windows, head and hyperparameters. `TrainSettings.published` returns those of a
            published benchmark.
        output: Folder of the run; created if it does not exist.
        cache: Folder of the encoded movies; by default that of the resumed run, or else ``features`` in `output`.
        resume: Whether to continue the run in `output` after its last complete epoch, if it holds one. With another
            number of epochs, the rest of the run follows the learning rates of that number. Nothing is done if all
            epochs are complete.
        device: Device to train on: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a `Device`. Under torchrun, each
            process uses a GPU of its own with ``auto`` and ``cuda``.
        loader_workers: Processes that read tokens; 0 reads them in this process. A GPU needs several.
        tensorboard: Whether to write curves to ``tensorboard`` in `output`.
        command: Command line to store in the models' record of their training.
        progress: Callback for the movies that are encoded and the steps that are done.
        on_epoch: Callback with each epoch's figures, after they and the models were written.

    Returns:
        The model folders and the figures.

    Raises:
        ConfigError: A setting breaks its rule, `output` holds a run and `resume` is not set, the resumed run has other
            settings or more epochs, or the loss is no longer finite.
        DataError: The data set cannot be read, a split is empty, all training movies have the same target, or a file
            cannot be written.
        CheckpointError: The encoder's weights cannot be read, or do not fit.
        VideoError: A video cannot be read.
        DeviceError: The device is absent, unusable or lacks memory.
        MissingDependencyError: A package is not installed.
    """
    output = Path(output)
    with one_error_per_machine():
        requested = parse_device(device)
        plan = plan_training(settings)
        require("torch", "timm", purpose="for training", extra="train")
    # PyTorch takes seconds to import, so mistakes in the settings are found first.
    from vis4mer.training.distributed import join_processes
    from vis4mer.training.fit.run import RunOptions, run_training

    options = RunOptions(
        output=output,
        cache=None if cache is None else Path(cache),
        resume=resume,
        device=requested,
        loader_workers=loader_workers,
        tensorboard=tensorboard,
        command=command,
    )
    with join_processes() as processes:
        return run_training(plan, options, processes, progress, on_epoch)
