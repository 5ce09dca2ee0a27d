"""Types of a video reader's output: batches of resized frames, properties of the video, and its damage."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import DecoderName
from vis4mer.devices.arrays import Array

FrameProgress = Callable[[int, int], None]
"""A callback that receives the number of frames done so far, and the expected number."""


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive sampled frames.

    Attributes:
        frames: RGB images of the preprocessing's size, uint8 `[N, H, W, 3]`, where the reader resizes them: in a GPU's
            memory or on the host. `vis4mer.devices.arrays.on_host` returns them on the host.
        pts_seconds: Presentation times, float64 `[N]`, in seconds after the video's first frame.
    """

    frames: Array
    pts_seconds: NDArray[np.float64]


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video as it is shown.

    Attributes:
        path: Path that the caller passed.
        codec: FFmpeg's name of the codec, such as ``h264``.
        width: Width in pixels, after rotation.
        height: Height in pixels, after rotation.
        duration: Seconds from the first frame's start to the last frame's end, measured on the packets that the file
            really holds.
        start: First frame's timestamp in the container, in seconds.
        fps: Average frames per second; None if a single frame or missing timestamps leave it unknown.
        rotation: Clockwise rotation that brings the stored picture upright: 0, 90, 180 or 270 degrees.
        pixel_format: FFmpeg's name of the stored pixel format, such as ``yuv420p``.
        video_streams: Number of video streams in the file without attached pictures; the first one is read.
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
    """Damage found in a video; final once a reader has been iterated to its end.

    Attributes:
        corrupt_packets: Number of packets that the container marks as damaged, that cannot be read from it, or that
            the video decoder rejects. An unreadable rest of a file counts as one packet.
        corrupt_frames: Number of sampled frames that the video decoder marks as damaged; it conceals errors as well
            as it can.
        missing_frames: Number of sampled frames that were not decoded; the last good frame before each replaces it.
        truncated: Whether the file ends before the duration that its header declares.
    """

    corrupt_packets: int = 0
    corrupt_frames: int = 0
    missing_frames: int = 0
    truncated: bool = False

    def __bool__(self) -> bool:
        """Whether there is any damage."""
        return bool(self.corrupt_packets or self.corrupt_frames or self.missing_frames or self.truncated)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of damage found."""
        found = (
            (self.truncated, "the file ends before the duration that its header declares"),
            (self.corrupt_packets, f"packets that could not be decoded: {self.corrupt_packets}"),
            (self.corrupt_frames, f"sampled frames decoded with errors: {self.corrupt_frames}"),
            (self.missing_frames, f"sampled frames missing, replaced by others: {self.missing_frames}"),
        )
        return tuple(text for present, text in found if present)


class VideoReader(Protocol):
    """Sampled frames of one video, in bounded batches: memory does not grow with the number of frames.

    Attributes:
        name: Video decoder in use.
        reason: Why it was chosen.
        info: Properties of the video.
        n_frames: Number of frames that an iteration yields in total.
        damage: Damage found; final after an iteration.
    """

    name: DecoderName
    reason: str
    info: VideoInfo
    n_frames: int
    damage: Damage

    def __iter__(self) -> Iterator[FrameBatch]:
        """Yields the frames from the first; each iteration decodes anew.

        Raises:
            VideoError: No sampled frame can be decoded, or its colours cannot be converted to RGB.
        """
        ...

    def close(self) -> None:
        """Releases the file, even while another thread iterates; further calls do nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
