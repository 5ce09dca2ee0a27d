"""`vis4mer.extract`: from movies to a cache of their encoder tokens."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vis4mer.devices.device import Device, RequestedDevice, on_device, parse_device, probe_driver
from vis4mer.errors import ConfigError
from vis4mer.packages import require
from vis4mer.text import count
from vis4mer.training.data.dataset import DataSet
from vis4mer.training.data.protocols import find_protocol
from vis4mer.training.data.videos import EncodingJob, gather_videos
from vis4mer.training.progress import Progress, ignore_progress
from vis4mer.training.settings import ExtractSettings

logger = logging.getLogger(__name__)

_TASK = "encoding videos"


@dataclass(frozen=True)
class Extraction:
    """The result of `extract`.

    Attributes:
        folder: Folder of the token files.
        n_videos: Number of videos, or clips of videos, to encode.
        n_encoded: Number of those that this call encoded; the cache held the others, or they failed.
        errors: Messages of those that failed.
    """

    folder: Path
    n_videos: int
    n_encoded: int
    errors: tuple[str, ...]


def extract(
    videos: Path | str | Sequence[Path | str],
    cache: Path | str,
    settings: ExtractSettings | None = None,
    *,
    splits: Path | str | None = None,
    batch_size: int = 32,
    workers: int = 1,
    device: str | Device = "auto",
    progress: Progress = ignore_progress,
    on_worker_start: Callable[[], None] | None = None,
) -> Extraction:
    """Encodes videos once, for `vis4mer.train` and `vis4mer.evaluate` with the same cache.

    Videos already in the cache are skipped, so the same call continues an interrupted one. A video that fails
    is logged as an error, and the others are still encoded.

    Args:
        videos: Videos, folders of videos, or lists of videos (a .csv file with a column 'path', or a .txt file).
        cache: Folder of the cache; created if it does not exist.
        settings: Encoder, frames and type of the tokens.
        splits: Folder of the split files of the benchmark ``settings.protocol``. Only the videos, or clips of videos,
            that they list are encoded; `videos` must then be the folder that holds them.
        batch_size: Frames per pass through the encoder.
        workers: Videos to encode at the same time, each by its own process.
        device: Device of the encoder: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a `Device`. Several workers share all
            GPUs with ``auto`` and ``cuda``.
        progress: Callback for the videos, and the fractions of videos, that are done.
        on_worker_start: Picklable function that each worker process calls first, for example to set up logging.

    Raises:
        ConfigError: A setting breaks its rule, or `splits` has no protocol or several `videos`.
        DataError: A list or a split file cannot be read, there is no video, or the cache cannot be written.
        CheckpointError: The encoder's weights cannot be read, or do not fit.
        DeviceError: The device is absent or unusable, or a worker died.
        MissingDependencyError: PyTorch or timm is not installed.
    """
    settings, requested = settings or ExtractSettings(), parse_device(device)
    sources = [Path(videos)] if isinstance(videos, Path | str) else [Path(video) for video in videos]
    jobs = _jobs(sources, settings.protocol, None if splits is None else Path(splits))

    # PyTorch takes seconds to import, so mistakes in the arguments are found first.
    require("torch", "timm", purpose="for encoding", extra="train")
    from vis4mer.models.placement import to_device
    from vis4mer.training.tokens.encoding import encode_videos, warn_damaged
    from vis4mer.training.tokens.workers import CacheRecipe, encode_in_workers

    recipe = CacheRecipe(Path(cache), settings, batch_size)
    features = recipe.open()
    _, chosen, reason = on_device(requested, lambda candidate: to_device(features.encoder, str(candidate)))
    todo = [job for job in jobs if not features.holds(job.video, job.clip)]
    if todo:
        logger.info("encoding %d of %s on %s (%s)", len(todo), count(len(jobs), "video"), chosen, reason)
    n_workers = min(workers, len(todo))
    results = (
        encode_videos(features, todo, _TASK, progress)
        if n_workers <= 1
        else encode_in_workers(
            recipe, todo, n_workers, _worker_devices(requested, chosen), _TASK, progress, on_worker_start
        )
    )
    errors, damaged = [], []
    for result in results:
        if result.error is not None:
            logger.error("%s", result.error)
            errors.append(str(result.error))
        elif result.damage:
            damaged.append(result)
    warn_damaged(damaged)
    features.write_index()
    return Extraction(features.folder, len(jobs), len(todo) - len(errors), tuple(errors))


def _jobs(sources: Sequence[Path], protocol: str | None, splits: Path | None) -> list[EncodingJob]:
    if splits is None:
        return [EncodingJob(video) for video in gather_videos(sources)]
    if protocol is None or len(sources) != 1:
        raise ConfigError.of("splits", splits, "needs a protocol and exactly one folder of videos")
    data = DataSet.read_protocol(find_protocol(protocol), sources[0], splits)
    data.listing.warn_missing(data.name)
    return [EncodingJob(example.video, example.clip) for example in data.listing.examples]


def _worker_devices(requested: RequestedDevice, chosen: Device) -> list[Device]:
    """Returns the devices that workers use in turn: all GPUs, unless the CPU is chosen or one device is requested."""
    if chosen.kind == "cpu" or isinstance(requested, Device):
        return [chosen]
    return [Device("cuda", index) for index in range(len(probe_driver().gpus))]
