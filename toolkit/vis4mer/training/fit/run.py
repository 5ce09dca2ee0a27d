"""One training run in one of its processes: the model, the tokens of its movies, and the training."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vis4mer.config import ModelConfig
from vis4mer.devices.device import RequestedDevice, on_device
from vis4mer.models.placement import to_device
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.text import count
from vis4mer.training.data.dataset import TrainingPlan
from vis4mer.training.data.listing import Split
from vis4mer.training.distributed import Processes
from vis4mer.training.fit.curves import Curves
from vis4mer.training.fit.loop import Trainer
from vis4mer.training.fit.model import build_model, model_config
from vis4mer.training.fit.state import RunFolder, run_identity
from vis4mer.training.progress import EpochRecord, Progress
from vis4mer.training.provenance import Origin, read_record
from vis4mer.training.result import TrainingResult, best_epoch
from vis4mer.training.settings import section
from vis4mer.training.settings_file import dump_settings
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.encoding import encode_examples, open_movies
from vis4mer.training.tokens.windows import warn_padded, warn_rounded

logger = logging.getLogger(__name__)

_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is executed; on a CPU, none of it changes the result.

    Attributes:
        output: Folder of the run.
        cache: Folder of the encoded movies; None for that of the resumed run, or else ``features`` in `output`.
        resume: Whether to continue the run in `output`.
        device: Device that the user chose for all processes.
        loader_workers: Processes that read tokens.
        tensorboard: Whether to write curves for TensorBoard.
        command: Command line that started the run; empty if it was started from Python.
    """

    output: Path
    cache: Path | None
    resume: bool
    device: RequestedDevice
    loader_workers: int
    tensorboard: bool
    command: str


@dataclass(frozen=True)
class _Prepared:
    """What a run needs before its movies are encoded, in one of its processes.

    Attributes:
        model: Model, on `device`.
        device: Device to encode and train on.
        features: Cache of the encoded movies.
        curves: Curves for TensorBoard; None without TensorBoard, and in all processes but the main one.
    """

    model: Vis4mer
    device: str
    features: FeatureCache
    curves: Curves | None


def run_training(
    plan: TrainingPlan,
    options: RunOptions,
    processes: Processes,
    progress: Progress,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> TrainingResult:
    """Encodes the movies that the cache lacks, and trains.

    Args:
        plan: Settings and movies.
        options: Where and how the run is executed.
        processes: Processes that train together.
        progress: Callback for the movies that are encoded and the steps that are done.
        on_epoch: Callback with each epoch's figures.

    Raises:
        Vis4merError: A movie, the encoder, the device or the run folder is unusable; see `vis4mer.train`.
    """
    plan.data.listing.warn_missing(plan.data.name)
    with processes.together():
        config = model_config(plan.settings, plan.data.listing)
        folder = RunFolder(options.output, resume=options.resume)
        history = _completed_epochs(folder, plan, config) if processes.is_main else []
    history = processes.from_main(history)
    if len(history) == plan.settings.training.epochs:
        logger.info("the run in %s is finished: %s of %d", folder.path, count(len(history), "epoch"), len(history))
        return _result(folder, history)
    if options.resume and not history:
        logger.info("%s holds no complete epoch to resume after; starting at the first", folder.path)

    warn_rounded(config)
    cache = processes.from_main(_cache_folder(options, folder))
    prepared = _prepare(plan, config, options, cache, processes)
    # A new run stores its settings before the movies are encoded, so that an interrupted one needs no other file to
    # continue. A resumed run stores them after the trainer has compared them with those of the run.
    if not history:
        _save_settings(folder, plan, processes)
    complete = _encode(plan, prepared.features, processes, progress)
    trainer = _trainer(complete, prepared, folder, options, processes, _origin(plan, complete, options, cache))
    if history:
        _save_settings(folder, plan, processes)

    def report_epoch(record: EpochRecord) -> None:
        if prepared.curves:
            prepared.curves.add(record)
        if on_epoch:
            on_epoch(record)

    trainer.run(
        on_step=lambda done, total: progress("training, steps", done, total),
        on_epoch=report_epoch,
    )
    return _result(folder, trainer.history)


def _completed_epochs(folder: RunFolder, plan: TrainingPlan, config: ModelConfig) -> list[EpochRecord]:
    """Returns the epochs of the run to resume, before anything is loaded; checks what can be compared by then."""
    training = plan.settings.training
    state = folder.resumable_state(run_identity(training, config), training.epochs)
    return state["history"] if state else []


def _cache_folder(options: RunOptions, folder: RunFolder) -> Path:
    default = options.output / "features"
    recorded = read_record(folder.last).get("cache") if options.resume else None
    if options.cache is not None or not isinstance(recorded, str):
        return options.cache or default
    if Path(recorded).is_dir():
        return Path(recorded)
    logger.warning("the cache of the run, %s, no longer exists; encoding the movies again to %s", recorded, default)
    return default


def _prepare(
    plan: TrainingPlan, config: ModelConfig, options: RunOptions, cache: Path, processes: Processes
) -> _Prepared:
    """Does everything that can fail at once, before the movies are encoded, which may take hours."""
    settings = plan.settings
    with processes.together():
        model = build_model(settings, config)
        # Moving the model is the test of the device: a GPU that the driver lists may still be unusable for PyTorch, and
        # ``auto`` then falls back to the CPU.
        _, device, reason = on_device(
            processes.device(options.device), lambda candidate: to_device(model, str(candidate))
        )
        assert model.encoder is not None, "build_model adds one"
        features = FeatureCache(
            cache, model.encoder, settings.preprocessing, dtype=settings.cache_dtype, refuse_others=True
        )
        # One process writes the curves: the figures of an epoch are equal in all of them.
        curves = Curves(options.output / "tensorboard") if options.tensorboard and processes.is_main else None
    together = f" in {processes.count} processes" if processes.count > 1 else ""
    logger.info("training on %s (%s)%s", device, reason, together)
    n_cores = os.cpu_count() or 1
    if options.loader_workers > n_cores:
        cores = count(n_cores, "CPU core")
        logger.warning("%d loader workers are slower than fewer: this machine has %s", options.loader_workers, cores)
    return _Prepared(model, str(device), features, curves)


def _save_settings(folder: RunFolder, plan: TrainingPlan, processes: Processes) -> None:
    with processes.together():
        if processes.is_main:
            folder.save_settings(dump_settings(plan.settings))


def _encode(plan: TrainingPlan, features: FeatureCache, processes: Processes, progress: Progress) -> TrainingPlan:
    """Encodes the movies; returns the plan without those that cannot be read."""
    unreadable = encode_examples(
        features,
        plan.train + plan.val,
        "encoding movies",
        processes,
        progress,
        skip_unreadable=plan.settings.data.skip_unreadable,
    )
    with processes.together():
        return plan.without(unreadable)


def _origin(plan: TrainingPlan, complete: TrainingPlan, options: RunOptions, cache: Path) -> Origin:
    listing, used = plan.data.listing, {*complete.train, *complete.val}
    skipped: dict[Split, list[str]] = {split: [] for split in _SPLITS}
    for example in plan.train + plan.val:
        if example not in used:
            skipped[example.split].append(example.video.name)
    is_default = cache == options.output / "features"
    return Origin(
        command=options.command,
        protocol=plan.data.protocol.name if plan.data.protocol else None,
        chosen_on=plan.chosen_on,
        missing={split: listing.missing_names(split) for split in _SPLITS},
        skipped=skipped,
        cache=None if is_default else str(cache.absolute()),
    )


def _trainer(
    plan: TrainingPlan,
    prepared: _Prepared,
    folder: RunFolder,
    options: RunOptions,
    processes: Processes,
    origin: Origin,
) -> Trainer:
    train, val = (open_movies(prepared.features, examples, processes) for examples in (plan.train, plan.val))
    warn_padded(train, prepared.model.config)
    return Trainer(
        prepared.model,
        plan.settings.head.name,
        train,
        val,
        plan.settings.training,
        folder,
        device=prepared.device,
        loader_workers=options.loader_workers,
        processes=processes,
        origin=origin,
    )


def _result(folder: RunFolder, history: list[EpochRecord]) -> TrainingResult:
    """Returns the result of a finished run; its record names the movies that it left out."""
    skipped_names = section(section(read_record(folder.last), "data"), "skipped").values()
    # The record may have been edited.
    skipped = tuple(str(name) for names in skipped_names if isinstance(names, list) for name in names)
    return TrainingResult(folder.best, folder.last, best_epoch(history), tuple(history), skipped)
