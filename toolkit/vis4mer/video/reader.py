"""The way in: `open_video` picks the reader that this machine and this video allow, and says why."""

import logging
import math
import os
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Literal, get_args

from vis4mer.config import Preprocessing
from vis4mer.errors import ConfigError, DeviceError, VideoError
from vis4mer.video import dali
from vis4mer.video.frames import Damage, FrameBatch, VideoInfo, VideoReader
from vis4mer.video.movie import Movie, scan
from vis4mer.video.pyav import PyAVReader

__all__ = ["Damage", "FrameBatch", "VideoDecoder", "VideoInfo", "VideoReader", "open_video"]

VideoDecoder = Literal["auto", "dali", "pyav"]

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")

log = logging.getLogger(__name__)


def open_video(
    path: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    video_decoder: VideoDecoder = "auto",
    device: str = "cpu",
    batch_size: int = 32,
    times: Sequence[float] | None = None,
    clip: tuple[float, float] | None = None,
) -> VideoReader:
    """Opens a movie for reading sampled frames.

    Args:
        path: a regular local file; never taken for an address or a pattern.
        preprocessing: which frames are taken and how they are resized.
        video_decoder: ``pyav`` (CPU), ``dali`` (see `vis4mer.video.dali`), or ``auto``: DALI where `device` is a GPU
            and it can read the video, else PyAV; the reader's `reason` says which and why.
        device: ``cpu``, ``cuda`` or ``cuda:N``: where DALI decodes.
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
    if not _DEVICE.fullmatch(device):
        raise ConfigError(f"device={device!r}: must be cpu, cuda or cuda:N")
    if video_decoder not in get_args(VideoDecoder):
        raise ConfigError(f"video_decoder={video_decoder!r}: must be one of {get_args(VideoDecoder)}")
    if clip is not None and not 0 <= clip[0] < clip[1] < math.inf:
        raise ConfigError(f"clip={clip!r}: must be a start and a later end, in seconds")
    movie = scan(path) if clip is None else scan(path).cut(*clip)
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
        _report(problem, logging.INFO if device == "cpu" else logging.WARNING)
        reason = problem
    return PyAVReader(movie, preprocessing, reason=reason, batch_size=batch_size, times=times)


def _why_not_dali(movie: Movie, device: str) -> str | None:
    if device == "cpu":
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
