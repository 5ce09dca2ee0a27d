"""One training run in one of its processes: the model, the tokens of its movies, and the training."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from vis4mer.config import HeadConfig, ModelConfig
from vis4mer.devices.device import RequestedDevice, on_device
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.placement import to_device
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.data.dataset import TrainingPlan
from vis4mer.training.data.listing import Listing, Split
from vis4mer.training.distributed import Processes
from vis4mer.training.fit.curves import Curves
from vis4mer.training.fit.loop import Trainer
from vis4mer.training.fit.state import RunFolder
from vis4mer.training.progress import EpochRecord, Progress
from vis4mer.training.provenance import Origin
from vis4mer.training.settings import TrainSettings
from vis4mer.training.settings_file import dump_settings
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.encoding import encode_movies

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is executed; on a CPU, none of it changes the result.

    Attributes:
        output: Folder of the run.
        cache: Folder of the encoded movies.
        resume: Whether to continue the run in `output`.
        device: Device that the user chose for all processes.
        loader_workers: Processes that read tokens.
        tensorboard: Whether to write curves for TensorBoard.
        command: Command line that started the run; empty if it was started from Python.
    """

    output: Path
    cache: Path
    resume: bool
    device: RequestedDevice
    loader_workers: int
    tensorboard: bool
    command: str


def run_training(
    plan: TrainingPlan,
    options: RunOptions,
    processes: Processes,
    progress: Progress,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> tuple[RunFolder, Trainer]:
    """Encodes the movies that the cache lacks, and trains.

    Args:
        plan: Settings and movies.
        options: Where and how the run is executed.
        processes: Processes that train together.
        progress: Callback for the movies that are encoded and the steps that are done.
        on_epoch: Callback with each epoch's figures.

    Returns:
        The folder of the run, and the trainer after its last epoch.

    Raises:
        Vis4merError: A movie, the encoder, the device or the run folder is unusable; see `vis4mer.train`.
    """
    settings, listing = plan.settings, plan.data.listing
    listing.warn_missing(plan.data.name)
    # Everything that can fail at once is checked before the movies are encoded, which may take hours.
    with processes.together():
        folder = RunFolder(options.output, resume=options.resume)
        model = build_model(settings, listing)
        # Moving the model is the test of the device: a GPU that the driver lists may still be unusable for PyTorch, and
        # ``auto`` then falls back to the CPU.
        _, device, reason = on_device(
            processes.device(options.device), lambda candidate: to_device(model, str(candidate))
        )
        assert model.encoder is not None, "build_model adds one"
        features = FeatureCache(
            options.cache, model.encoder, settings.preprocessing, dtype=settings.cache_dtype, refuse_others=True
        )
        # One process writes the curves: the figures of an epoch are equal in all of them.
        curves = Curves(options.output / "tensorboard") if options.tensorboard and processes.is_main else None
    together = f" in {processes.count} processes" if processes.count > 1 else ""
    logger.info("training on %s (%s)%s", device, reason, together)

    splits: tuple[Split, ...] = get_args(Split)
    origin = Origin(
        command=options.command,
        protocol=plan.data.protocol.name if plan.data.protocol else None,
        chosen_on=plan.chosen_on,
        missing={split: listing.missing_names(split) for split in splits},
    )
    trainer = Trainer(
        model,
        settings.head.name,
        encode_movies(features, plan.train, "train", processes, progress),
        encode_movies(features, plan.val, plan.chosen_on, processes, progress),
        settings.training,
        folder,
        device=str(device),
        loader_workers=options.loader_workers,
        processes=processes,
        origin=origin,
    )
    # Written after the trainer has compared them with a resumed run, so a refused run leaves the old file as it was.
    with processes.together():
        if processes.is_main:
            folder.save_settings(dump_settings(settings))

    def report_epoch(record: EpochRecord) -> None:
        if curves:
            curves.add(record)
        if on_epoch:
            on_epoch(record)

    trainer.run(
        on_step=lambda done, total: progress("training, steps", done, total),
        on_epoch=report_epoch,
    )
    return folder, trainer


def build_model(settings: TrainSettings, listing: Listing) -> Vis4mer:
    """Builds a model with the settings' encoder and one new head.

    Args:
        settings: Encoder, frames, windows, and name and sizes of the head; their seed draws the head's initial weights.
        listing: Data set, which decides the head's task and labels.

    Raises:
        ConfigError: A size breaks its rule.
        CheckpointError: The encoder's weights cannot be read, or do not fit.
    """
    preprocessing, windows, seed = settings.preprocessing, settings.windows, settings.training.seed
    encoder = FrameEncoder.build(settings.encoder.name, preprocessing, settings.encoder.weights, seed)
    # The kernels are generated at the length of a full window, all tokens of all its frames.
    decoder = settings.head.decoder_config(
        d_input=encoder.config.features,
        l_max=windows.frames(preprocessing.fps) * encoder.config.tokens,
        d_output=len(listing.labels) if listing.task == "classification" else 1,
    )
    heads = {settings.head.name: HeadConfig(decoder, listing.task, listing.labels)}
    config = ModelConfig(heads, encoder.config, preprocessing, windows)
    # Seeded again after the encoder, so that the head's initial weights do not depend on the encoder's architecture.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vis4mer(config, encoder)
