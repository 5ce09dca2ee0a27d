"""The evaluation of checkpoints on the test split of a data set."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vis4mer.config import Preprocessing
from vis4mer.devices.device import Device, on_device
from vis4mer.errors import ConfigError, DataError, DeviceError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.placement import to_device
from vis4mer.training.config import TokenDtype, TrainPrecision
from vis4mer.training.data.dataset import DataSet
from vis4mer.training.data.protocols import PROTOCOLS
from vis4mer.training.distributed import ALONE
from vis4mer.training.evaluation.baseline import Baseline
from vis4mer.training.evaluation.heads import class_order, find_head
from vis4mer.training.evaluation.inference import predict_windows
from vis4mer.training.evaluation.report import Report, Run
from vis4mer.training.progress import Progress
from vis4mer.training.provenance import RECORD_FILE, read_record
from vis4mer.training.settings import section
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.encoding import encode_movies
from vis4mer.training.tokens.windows import check_movies, evaluation_windows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates checkpoints; see `vis4mer.training.evaluate.evaluate` for the attributes."""

    head: str | None
    cache: Path | None
    cache_dtype: TokenDtype
    device: str | Device
    precision: TrainPrecision
    batch_size: int
    loader_workers: int
    progress: Progress

    def check(self, checkpoints: Sequence[Path], data: DataSet) -> None:
        """Checks that heads fit a data set, without loading their weights.

        Raises:
            Vis4merError: A checkpoint or its head does not fit; see `vis4mer.evaluate`.
        """
        for checkpoint in checkpoints:
            _, config = find_head(checkpoint, self.head, _task_name(data))
            class_order(data.listing, config, checkpoint)

    def report(self, checkpoints: Sequence[Path], data: DataSet, tasks: Iterator[str]) -> Report:
        """Evaluates checkpoints on the test split of a data set.

        Args:
            checkpoints: Model folders, at least one.
            data: Data set that all of them are evaluated on.
            tasks: Names of the runs for `progress`.

        Raises:
            Vis4merError: A checkpoint, the data set or the cache is unusable; see `vis4mer.evaluate`.
        """
        listing = data.listing
        examples = listing.require_split("test")
        runs = tuple(self.run(checkpoint, data, next(tasks)) for checkpoint in checkpoints)
        return Report(
            name=data.name,
            task=listing.task,
            labels=listing.labels,
            missing=listing.missing_names("test"),
            published=data.protocol.published_fractions if data.protocol else {},
            runs=runs,
            examples=examples,
            baseline=Baseline.of(listing),
        )

    def run(self, checkpoint: Path, data: DataSet, task: str) -> Run:
        """Evaluates one checkpoint on the test split of a data set.

        Args:
            checkpoint: Model folder.
            data: Data set to evaluate it on.
            task: Name of the run for `progress`.

        Raises:
            ConfigError: The checkpoint has several heads, and none was chosen.
            CheckpointError: The checkpoint cannot be read, or has no encoder.
            DataError: The data set has no test split, or other classes than the checkpoint.
            VideoError: A video cannot be read.
            DeviceError: The device is absent or unusable, or lacks memory.
        """
        name, config = find_head(checkpoint, self.head, _task_name(data))
        order = class_order(data.listing, config, checkpoint)
        model = load_checkpoint(checkpoint)
        assert model.encoder is not None, "find_head has checked it"
        _, device, _ = on_device(self.device, lambda candidate: to_device(model, str(candidate)))
        cache = self._cache(checkpoint, model.encoder, model.config.preprocessing)
        movies = encode_movies(cache, data.listing.require_split("test"), "test", ALONE, self.progress)
        check_movies(movies, "test", model.config, name)
        try:
            predictions = predict_windows(
                model.head(name),
                evaluation_windows(movies, model.config),
                config.task,
                batch_size=self.batch_size,
                device=torch.device(str(device)),
                precision=self.precision,
                class_order=order,
                loader_workers=self.loader_workers,
                on_batch=lambda done, total: self.progress(task, done, total),
            )
        except torch.OutOfMemoryError:
            rule = f"{device} has too little memory for this many windows at once"
            raise DeviceError.of("batch_size", self.batch_size, rule, "lower it") from None
        record = read_record(checkpoint)
        # A record may have been edited.
        seed = section(record, "settings").get("seed")
        seed = seed if isinstance(seed, int) else None
        return Run(str(checkpoint), predictions, seed, as_published=record.get("chosen_on") == "test")

    def _cache(self, checkpoint: Path, encoder: FrameEncoder, frames: Preprocessing) -> FeatureCache:
        """Returns the cache of an encoder's tokens, after a warning if it holds those of others alone."""
        root = self.cache or checkpoint.parent / "features"
        try:
            return FeatureCache(root, encoder, frames, dtype=self.cache_dtype, refuse_others=True)
        except DataError as error:
            cache = FeatureCache(root, encoder, frames, dtype=self.cache_dtype)
            logger.warning("the test movies are encoded again: %s", error)
            return cache


def recorded_protocol(checkpoint: Path) -> str:
    """Returns the name of the benchmark that a checkpoint was trained on.

    Raises:
        ConfigError: The record of the checkpoint's training names no benchmark.
    """
    name = read_record(checkpoint).get("protocol")
    if not isinstance(name, str) or name not in PROTOCOLS:
        rule = f"its {RECORD_FILE} names no benchmark"
        raise ConfigError.of("checkpoint", checkpoint, rule, "name a benchmark or a CSV of movies")
    return name


def _task_name(data: DataSet) -> str | None:
    return None if data.protocol is None else data.name.rpartition("/")[2]
