"""The way in: `open_video` picks the reader that this machine and this video allow, and says why."""

import logging
import math
import os
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Literal, get_args

from vis4mer.config import Preprocessing
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import ConfigError, DeviceError, VideoError
from vis4mer.video import dali
from vis4mer.video.frames import Damage, FrameBatch, VideoInfo, VideoReader
from vis4mer.video.movie import Movie, scan
from vis4mer.video.pyav import PyAVReader

__all__ = ["Damage", "FrameBatch", "VideoDecoder", "VideoInfo", "VideoReader", "open_video"]

VideoDecoder = Literal["auto", "dali", "pyav"]

log = logging.getLogger(__name__)


def open_video(
    video: str | os.PathLike[str] | Movie,
    preprocessing: Preprocessing,
    *,
    video_decoder: VideoDecoder = "auto",
    device: Device = CPU,
    batch_size: int = 32,
    times: Sequence[float] | None = None,
    clip: tuple[float, float] | None = None,
) -> VideoReader:
    """Opens a movie for reading sampled frames.

    Args:
        video: Path of a regular local file, never read as an address or a pattern; or a movie that `scan` has read,
            which saves scanning the file again.
        preprocessing: which frames are taken and how they are resized.
        video_decoder: ``pyav`` (CPU), ``dali`` (see `vis4mer.video.dali`), or ``auto``: DALI where `device` is a GPU
            and it can read the video, else PyAV; the reader's `reason` says which and why.
        device: Device that DALI decodes on.
        batch_size: frames per batch, at most.
        times: ascending seconds after the first frame to take instead of what `preprocessing` says.
        clip: start and end, in seconds after the first frame, of all that is taken from; the whole movie by default.

    Raises:
        VideoError: the file is not a movie of which at least one frame can be decoded.
        ConfigError: an argument breaks its rule.
        MissingDependencyError: DALI was asked for and is not installed.
        DeviceError: DALI was asked for and cannot use the device.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size!r}: must be at least 1 frame")
    if times is not None and not _ascending(times):
        raise ConfigError(f"times={list(times)!r}: must be finite, non-negative and ascending seconds, at least one")
    if video_decoder not in get_args(VideoDecoder):
        raise ConfigError(f"video_decoder={video_decoder!r}: must be one of {get_args(VideoDecoder)}")
    if clip is not None and not 0 <= clip[0] < clip[1] < math.inf:
        raise ConfigError(f"clip={clip!r}: must be a start and a later end, in seconds")
    movie = video if isinstance(video, Movie) else scan(video)
    if clip is not None:
        movie = movie.cut(*clip)
    reason = f"video_decoder={video_decoder} was asked for"
    if video_decoder == "dali":
        if problem := dali.installed() and dali.obstacle(movie, device):
            raise VideoError(f"video={movie.path!r}: {problem}; use video_decoder='pyav'")
        return dali.DALIReader(movie, preprocessing, device=device, reason=reason, batch_size=batch_size, times=times)
    if video_decoder == "auto":
        problem = _why_not_dali(movie, device)
        if problem is None:
            try:
                reason = f"DALI decodes {movie.info.codec} on {device}; frames are resized on the CPU"
                return dali.DALIReader(
                    movie, preprocessing, device=device, reason=reason, batch_size=batch_size, times=times
                )
            except DeviceError as error:
                problem = str(error)
        _report(problem, logging.INFO if device.kind == "cpu" else logging.WARNING)
        reason = problem
    return PyAVReader(movie, preprocessing, reason=reason, batch_size=batch_size, times=times)


def _why_not_dali(movie: Movie, device: Device) -> str | None:
    if device.kind == "cpu":
        return "the device is cpu"
    if not dali.installed():
        return "DALI is not installed (vis4mer[dali])"
    return dali.obstacle(movie, device)


@cache
def _report(problem: str, level: int) -> None:
    """Logs a fallback, each reason once per process."""
    log.log(level, "videos are decoded by PyAV on the CPU: %s", problem)


def _ascending(times: Sequence[float]) -> bool:
    rising = all(a <= b for a, b in pairwise(times))
    return len(times) > 0 and all(math.isfinite(t) and t >= 0 for t in times) and rising
