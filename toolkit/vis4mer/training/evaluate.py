"""`vis4mer.evaluate`: evaluates checkpoints on a test split, beside published results."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError
from vis4mer.packages import require
from vis4mer.training.config import TokenDtype, TrainPrecision
from vis4mer.training.data.dataset import DataSet
from vis4mer.training.data.listing import Listing
from vis4mer.training.data.protocols import find_protocol
from vis4mer.training.evaluation.heads import find_head
from vis4mer.training.progress import Progress, ignore_progress
from vis4mer.training.settings import DataSettings

if TYPE_CHECKING:
    from vis4mer.training.evaluation.report import Report


def evaluate(
    checkpoints: Path | str | Sequence[Path | str],
    *,
    movies: Path | str | None = None,
    protocol: str | None = None,
    videos: Path | str | None = None,
    splits: Path | str | None = None,
    head: str | None = None,
    cache: Path | str | None = None,
    cache_dtype: TokenDtype = "bf16",
    device: str | Device = "auto",
    precision: TrainPrecision = "fp32",
    batch_size: int = 32,
    loader_workers: int = 0,
    progress: Progress = ignore_progress,
) -> "list[Report]":
    """Evaluates checkpoints on the test split of a CSV of movies or of a published benchmark.

    Several checkpoints of one task, trained with different seeds, are summarised by their mean and spread. Without
    `movies` and `protocol`, each checkpoint is evaluated on the benchmark that it was trained on.

    Args:
        checkpoints: Model folders, at least one.
        movies: CSV of movies; see `vis4mer.training.data.listing.Listing.read`.
        protocol: Name of a published benchmark.
        videos: Folder of the benchmark's videos.
        splits: Folder of the benchmark's own split files.
        head: Name of the head to evaluate; by default the only one, or the one with the name of the benchmark's task.
        cache: Folder of the encoded movies, ``features`` beside each checkpoint by default.
        cache_dtype: Type of the stored tokens.
        device: Device to run the heads on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Precision of the heads; ``bf16`` runs matrix products in bfloat16.
        batch_size: Windows per pass.
        loader_workers: Processes that read tokens; 0 reads them in this process.
        progress: Callback for the movies that are encoded.

    Returns:
        One report per data set, in the order of the checkpoints.

    Raises:
        ConfigError: The data set is incomplete, a checkpoint records no benchmark, or the head is ambiguous.
        CheckpointError: A checkpoint cannot be read, or has no encoder.
        DataError: The data set cannot be read, has no test split, or has other classes than a checkpoint.
        VideoError: A video cannot be read.
        DeviceError: The device is absent or unusable.
        MissingDependencyError: PyTorch or timm is not installed.
    """
    paths = [Path(checkpoints)] if isinstance(checkpoints, Path | str) else [Path(path) for path in checkpoints]
    movies, videos, splits, cache = (None if path is None else Path(path) for path in (movies, videos, splits, cache))
    if not paths:
        raise ConfigError.of("checkpoints", [], "must name at least one model folder")
    if len(set(paths)) < len(paths):
        raise ConfigError.of("checkpoints", list(map(str, paths)), "a folder is named twice", "name each one once")
    if movies is not None or protocol is not None:
        data = _named_data_set(DataSettings(movies, protocol, videos, splits), paths[0], head)
    elif videos is None or splits is None:
        raise ConfigError.of("movies", None, "there is no data set", "pass movies, or a benchmark's videos and splits")
    else:
        data = None

    # PyTorch takes seconds to import, so mistakes in the arguments are found first.
    require("torch", "timm", purpose="for evaluation", extra="train")
    from vis4mer.training.evaluation.checkpoints import Evaluator, recorded_protocol

    evaluator = Evaluator(head, cache, cache_dtype, device, precision, batch_size, loader_workers, progress)
    if data is not None:
        evaluations = [(paths, data)]
    else:
        assert videos is not None, "checked above"
        assert splits is not None, "checked above"
        checkpoints_of: dict[str, list[Path]] = {}
        for path in paths:
            checkpoints_of.setdefault(recorded_protocol(path), []).append(path)
        evaluations = [
            (same, _checked(DataSet.read_protocol(find_protocol(name), videos, splits)))
            for name, same in checkpoints_of.items()
        ]
    # Everything is read and checked before the first evaluation, which may take a long time.
    for same, tested in evaluations:
        evaluator.check(same, tested)
    several = len(paths) > 1
    tasks = (f"testing windows, run {i} of {len(paths)}" if several else "testing windows" for i in count(1))
    return [evaluator.report(same, tested, tasks) for same, tested in evaluations]


def _named_data_set(settings: DataSettings, checkpoint: Path, head: str | None) -> DataSet:
    if settings.movies is None:
        return _checked(DataSet.read(settings))
    # The classes are the model's, so the CSV needs no training movies to define them.
    _, config = find_head(checkpoint, head, None)
    return _checked(DataSet(settings.movies.name, None, Listing.read(settings.movies, tested_head=config)))


def _checked(data: DataSet) -> DataSet:
    """Returns `data` if it has a test split, after a warning about missing movies."""
    data.listing.require_split("test")
    data.listing.warn_missing(data.name)
    return data
