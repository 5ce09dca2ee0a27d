"""What a video reader gives: batches of resized frames, what the video is, and what was wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

DecoderName = Literal["pyav", "dali"]


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive sampled frames.

    Attributes:
        frames: uint8 [N, H, W, 3], RGB, already resized.
        pts_seconds: float64 [N], when each frame is first shown; the video's first frame is at 0.
    """

    frames: NDArray[np.uint8]
    pts_seconds: NDArray[np.float64]


@dataclass(frozen=True)
class VideoInfo:
    """A video as it is shown.

    Attributes:
        path: as given.
        codec: FFmpeg's name of the codec, such as ``h264``.
        width: after rotation, in pixels.
        height: after rotation, in pixels.
        duration: from the first frame's start to the last one's end, in seconds, of what the file really holds.
        start: the first frame's timestamp in the container, in seconds.
        fps: average frame rate; None where a single frame or missing timestamps leave it unknown.
        rotation: clockwise degrees that bring the stored picture upright: 0, 90, 180 or 270.
        pixel_format: FFmpeg's name of the stored pixel format, such as ``yuv420p``.
        video_streams: number of video streams in the file, attached pictures left out; the first one is read.
    """

    path: str
    codec: str
    width: int
    height: int
    duration: float
    start: float
    fps: float | None
    rotation: int
    pixel_format: str
    video_streams: int


@dataclass
class Damage:
    """What was found wrong with a video; final once a reader has been iterated to its end.

    Attributes:
        corrupt_packets: packets that the container marks as damaged or that the video decoder refused.
        corrupt_frames: sampled frames that the video decoder marks as damaged (it hides errors as well as it can).
        missing_frames: sampled frames that were not decoded; the last good frame before stands in for them.
        truncated: the file ends before the duration that its header declares.
    """

    corrupt_packets: int = 0
    corrupt_frames: int = 0
    missing_frames: int = 0
    truncated: bool = False

    def __bool__(self) -> bool:
        """Whether anything was wrong."""
        return bool(self.corrupt_packets or self.corrupt_frames or self.missing_frames or self.truncated)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of damage found, for people to read."""
        found = (
            (self.truncated, "the file ends before the duration that its header declares"),
            (self.corrupt_packets, f"packets that could not be decoded: {self.corrupt_packets}"),
            (self.corrupt_frames, f"sampled frames decoded with errors: {self.corrupt_frames}"),
            (self.missing_frames, f"sampled frames missing, for which others stand in: {self.missing_frames}"),
        )
        return tuple(text for present, text in found if present)


class VideoReader(Protocol):
    """Sampled frames of one video, in bounded batches: memory does not grow with the number of frames.

    Attributes:
        name: which decoder reads the video.
        reason: why that one was picked, in words.
        info: what the video is.
        n_frames: number of frames that iteration yields in all.
        damage: what was wrong; final after iteration.
    """

    name: DecoderName
    reason: str
    info: VideoInfo
    n_frames: int
    damage: Damage

    def __iter__(self) -> Iterator[FrameBatch]:
        """Yields the frames from the first; each iteration decodes anew.

        Raises:
            VideoError: not one frame could be decoded.
        """
        ...

    def close(self) -> None:
        """Releases the file, also while another thread iterates; further calls do nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
