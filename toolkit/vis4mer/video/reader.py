"""The way in: `open_video` picks the reader that this machine and this video allow, and says why."""

import logging
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from vis4mer.config import Preprocessing
from vis4mer.errors import ConfigError
from vis4mer.video.frames import Damage, FrameBatch, VideoInfo, VideoReader
from vis4mer.video.movie import scan
from vis4mer.video.pyav import PyAVReader

__all__ = ["Damage", "FrameBatch", "VideoDecoder", "VideoInfo", "VideoReader", "open_video"]

VideoDecoder = Literal["auto", "dali", "pyav"]

log = logging.getLogger(__name__)


def open_video(
    path: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    decoder: VideoDecoder = "auto",
    device: str = "cpu",
    batch_size: int = 32,
    times: Sequence[float] | None = None,
) -> VideoReader:
    """Opens a movie for reading sampled frames.

    Args:
        path: a regular local file; never taken for an address or a pattern.
        preprocessing: which frames are taken and how they are resized.
        decoder: ``pyav`` (CPU), ``dali`` (see `vis4mer.video.dali`), or ``auto``: DALI where `device` is a GPU and it
            can read the video, else PyAV; the reader's `reason` says which and why.
        device: ``cpu``, ``cuda`` or ``cuda:N``: where DALI decodes.
        batch_size: frames per batch, at most.
        times: ascending seconds after the first frame to take instead of every ``1 / fps``.

    Raises:
        VideoError: the file is not a movie of which at least one frame can be decoded.
        ConfigError: an argument breaks its rule.
        MissingDependencyError: DALI was asked for and is not installed.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size!r}: must be at least 1 frame")
    if times is not None and not _ascending(times):
        raise ConfigError(f"times={list(times)!r}: must be finite, non-negative and ascending seconds, at least one")
    movie = scan(path)
    return PyAVReader(movie, preprocessing, reason="device is cpu", batch_size=batch_size, times=times)


def _ascending(times: Sequence[float]) -> bool:
    rising = all(a <= b for a, b in pairwise(times))
    return len(times) > 0 and all(math.isfinite(t) and t >= 0 for t in times) and rising
