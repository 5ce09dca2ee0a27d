"""The evaluation of checkpoints on the test split of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vis4mer.config import HeadConfig, ModelConfig
from vis4mer.devices.device import Device, on_device
from vis4mer.errors import CheckpointError, ConfigError, DataError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.placement import to_device
from vis4mer.training.config import TokenDtype, TrainPrecision
from vis4mer.training.data.dataset import DataSet
from vis4mer.training.data.listing import Listing
from vis4mer.training.data.protocols import PROTOCOLS
from vis4mer.training.distributed import ALONE
from vis4mer.training.evaluation.inference import predict_windows
from vis4mer.training.evaluation.report import Report, Run
from vis4mer.training.progress import Progress
from vis4mer.training.provenance import RECORD_FILE, read_record
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.encoding import encode_movies
from vis4mer.training.tokens.windows import check_movies, evaluation_windows


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

    def report(self, checkpoints: Sequence[Path], data: DataSet) -> Report:
        """Evaluates checkpoints on the test split of a data set.

        Args:
            checkpoints: Model folders, at least one.
            data: Data set that all of them are evaluated on.

        Raises:
            Vis4merError: A checkpoint, the data set or the cache is unusable; see `vis4mer.evaluate`.
        """
        listing = data.listing
        runs = tuple(self.run(checkpoint, data) for checkpoint in checkpoints)
        published = data.protocol.published_fractions if data.protocol else {}
        return Report(data.name, listing.task, listing.labels, listing.missing_names("test"), published, runs)

    def run(self, checkpoint: Path, data: DataSet) -> Run:
        """Evaluates one checkpoint on the test split of a data set.

        Raises:
            ConfigError: The checkpoint has several heads, and none was chosen.
            CheckpointError: The checkpoint cannot be read, or has no encoder.
            DataError: The data set has no test split, or other classes than the checkpoint.
            VideoError: A video cannot be read.
            DeviceError: The device is absent or unusable.
        """
        model = load_checkpoint(checkpoint)
        if model.encoder is None:
            raise CheckpointError.of("checkpoint", checkpoint, "holds no encoder", "pass a checkpoint with an encoder")
        name = self.head or _head_name(model.config, data)
        head, config = model.head(name), model.config.heads[name]
        class_order = _class_order(data.listing, config, checkpoint)
        _, device, _ = on_device(self.device, lambda candidate: to_device(model, str(candidate)))
        features = FeatureCache(
            self.cache or checkpoint.parent / "features",
            model.encoder,
            model.config.preprocessing,
            dtype=self.cache_dtype,
        )
        movies = encode_movies(features, data.listing.require_split("test"), "test", ALONE, self.progress)
        check_movies(movies, "test", model.config, name)
        predictions = predict_windows(
            head,
            evaluation_windows(movies, model.config),
            config.task,
            batch_size=self.batch_size,
            device=torch.device(str(device)),
            precision=self.precision,
            class_order=class_order,
            loader_workers=self.loader_workers,
        )
        record = read_record(checkpoint)
        seed = record.get("settings", {}).get("seed")
        return Run(str(checkpoint), predictions, seed, as_published=record.get("chosen_on") == "test")


def recorded_protocol(checkpoint: Path) -> str:
    """Returns the name of the benchmark that a checkpoint was trained on.

    Raises:
        ConfigError: The record of the checkpoint's training names no benchmark.
    """
    name = read_record(checkpoint).get("protocol")
    if not isinstance(name, str) or name not in PROTOCOLS:
        rule = f"its {RECORD_FILE} names no benchmark"
        raise ConfigError.of("checkpoint", checkpoint, rule, "pass a protocol or a CSV of movies")
    return name


def _head_name(model: ModelConfig, data: DataSet) -> str:
    """Returns the only head, or the head with the name of the benchmark's task."""
    if len(model.heads) == 1:
        return next(iter(model.heads))
    task_name = data.name.rpartition("/")[2]
    if data.protocol is None or task_name not in model.heads:
        raise ConfigError.of(
            "heads", tuple(model.heads), "the checkpoint has several", "choose one of them by its name"
        )
    return task_name


def _class_order(listing: Listing, head: HeadConfig, checkpoint: Path) -> list[int] | None:
    """Returns the index of the head's output for each class of the data set; None for a regression.

    Raises:
        DataError: The classes are not the same, or only one of the two is a regression.
    """
    if head.task != listing.task:
        rule = f"predicts a {head.task}, but the data set is a {listing.task}"
        raise DataError.of("checkpoint", checkpoint, rule)
    if differing := sorted(set(head.labels) ^ set(listing.labels)):
        owner = "the checkpoint" if differing[0] in head.labels else "the data set"
        counts = f"{len(head.labels)} and {len(listing.labels)} classes"
        raise DataError.of("checkpoint", checkpoint, f"only {owner} has the class {differing[0]!r} ({counts})")
    if head.task == "regression":
        return None
    return [head.labels.index(label) for label in listing.labels]
