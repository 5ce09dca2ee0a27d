"""Entry point: `open_video` chooses the video decoder by machine and video, and records why."""

import logging
import math
import os
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import get_args

from vis4mer.config import Preprocessing, VideoDecoder
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import ConfigError, DeviceError, VideoError
from vis4mer.video import dali
from vis4mer.video.fallback import FallbackReader
from vis4mer.video.frames import Damage, FrameBatch, FrameProgress, VideoInfo, VideoReader
from vis4mer.video.movie import Movie, scan
from vis4mer.video.pyav import PyAVReader

__all__ = ["Damage", "FrameBatch", "FrameProgress", "VideoDecoder", "VideoInfo", "VideoReader", "open_video"]

logger = logging.getLogger(__name__)


def open_video(
    video: str | os.PathLike[str] | Movie,
    preprocessing: Preprocessing,
    *,
    video_decoder: VideoDecoder = "auto",
    device: Device = CPU,
    batch_size: int = 32,
    times: Sequence[float] | None = None,
    clip: tuple[float, float] | None = None,
    threads: int = 0,
) -> VideoReader:
    """Opens a movie for reading sampled frames.

    Args:
        video: Path of a regular local file, never interpreted as an address or a pattern; or a movie that `scan`
            returned, which saves scanning the file again.
        preprocessing: Choice of the frames, and their size and resampling.
        video_decoder: ``pyav`` (on the CPU), ``dali`` (see `vis4mer.video.dali`), or ``auto``: DALI if `device` is a
            GPU that can decode the video, else PyAV. If DALI fails in mid-movie, ``auto`` goes on with PyAV from the
            next frame. The reader's `reason` records the choice, and such a change after it.
        device: Device that DALI decodes on.
        batch_size: Largest number of frames in a batch.
        times: Ascending times of the samples, in seconds after the first frame, which replace the choice that
            `preprocessing` makes.
        clip: Start and end of the part to sample, in seconds after the first frame; None for the whole movie.
        threads: Threads of PyAV's video decoder; 0 for one per core.

    Raises:
        VideoError: The file is not a movie with at least one decodable frame, or DALI was requested and cannot decode
            it.
        ConfigError: An argument breaks its rule.
        MissingDependencyError: DALI was requested and is not installed.
        DeviceError: DALI was requested and cannot use the device.
    """
    _check_arguments(video_decoder, batch_size, times, clip)
    movie = video if isinstance(video, Movie) else scan(video)
    if clip is not None:
        movie = movie.cut(*clip)

    def open_with_dali(reason: str) -> dali.DALIReader:
        return dali.DALIReader(movie, preprocessing, device=device, reason=reason, batch_size=batch_size, times=times)

    def open_with_pyav(reason: str) -> PyAVReader:
        return PyAVReader(movie, preprocessing, threads=threads, reason=reason, batch_size=batch_size, times=times)

    reason = f"video_decoder={video_decoder} was requested"
    if video_decoder == "dali":
        _require_dali_reads(movie, device)
        return open_with_dali(reason)
    if video_decoder == "auto":
        problem = _why_not_dali(movie, device)
        if problem is None:
            try:
                reader = open_with_dali(f"DALI decodes {movie.info.codec} on {device}")
                return FallbackReader(reader, open_with_pyav)
            except DeviceError as error:
                problem = str(error)
        # PyAV is the normal choice on a CPU, but a loss of speed on a GPU.
        _log_fallback(problem, logging.INFO if device.kind == "cpu" else logging.WARNING)
        reason = problem
    return open_with_pyav(reason)


def _check_arguments(
    video_decoder: VideoDecoder, batch_size: int, times: Sequence[float] | None, clip: tuple[float, float] | None
) -> None:
    if batch_size < 1:
        raise ConfigError.of("batch_size", batch_size, "must be at least 1 frame")
    if times is not None and not _are_sample_times(times):
        rule = "must hold at least one time; times are finite, non-negative and ascending seconds"
        raise ConfigError.of("times", list(times), rule)
    if video_decoder not in get_args(VideoDecoder):
        raise ConfigError.of("video_decoder", video_decoder, f"must be one of {', '.join(get_args(VideoDecoder))}")
    if clip is not None and not 0 <= clip[0] < clip[1] < math.inf:
        raise ConfigError.of("clip", clip, "must be a start and a later end, in seconds")


def _are_sample_times(times: Sequence[float]) -> bool:
    valid = all(math.isfinite(time) and time >= 0 for time in times)
    ascending = all(earlier <= later for earlier, later in pairwise(times))
    return len(times) > 0 and valid and ascending


def _require_dali_reads(movie: Movie, device: Device) -> None:
    # Without the package, DALIReader raises the error that names the extra to install.
    if dali.installed() and (problem := dali.obstacle(movie, device)):
        raise VideoError.of("video", movie.path, problem, "use video_decoder='pyav'")


def _why_not_dali(movie: Movie, device: Device) -> str | None:
    if device.kind == "cpu":
        return "the device is cpu"
    if not dali.installed():
        return "DALI is not installed (vis4mer[dali])"
    return dali.obstacle(movie, device)


@cache
def _log_fallback(problem: str, level: int) -> None:
    """Logs that PyAV decodes instead of DALI; the cache limits it to one message per reason and process."""
    logger.log(level, "videos are decoded by PyAV on the CPU: %s", problem)
