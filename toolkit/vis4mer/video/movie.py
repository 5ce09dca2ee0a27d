"""A scanned movie: its packets and properties, and the frames that samples take. Nothing but one frame is decoded."""

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, Self

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.errors import VideoError
from vis4mer.video.container import MAX_PIXELS, movie_stream, movie_streams, open_container
from vis4mer.video.ffmpeg import ContentError, content_call, decode
from vis4mer.video.frames import VideoInfo
from vis4mer.video.index import PacketIndex, index_packets, packets
from vis4mer.video.resize import IDENTITY, DisplayMatrix
from vis4mer.video.sampling import MAX_SAMPLES, at_seconds, grid, n_samples, shown_at


@dataclass(frozen=True)
class Movie:
    """A scanned movie, from which both video decoders start, so they take the same frames at the same times.

    Attributes:
        path: Path that the caller passed.
        index: Index of its packets.
        info: Properties as shown.
        display: Transformation that brings stored pictures upright.
        colour_matrix: FFmpeg's AVColorSpace of the stored pixels.
        full_range: Whether the stored pixels use all levels from 0 to 255.
        range_is_coded: Whether the video stream itself declares that, and not its container alone.
        clip: Start and end of the part to sample, in ticks; None for the whole movie.
    """

    path: str
    index: PacketIndex
    info: VideoInfo
    display: DisplayMatrix
    colour_matrix: int
    full_range: bool
    range_is_coded: bool
    clip: tuple[int, int] | None = None

    def cut(self, start: float, end: float) -> Self:
        """Returns the same movie, of which only the part from `start` to `end` is sampled.

        Args:
            start: Seconds after the first frame, non-negative.
            end: Seconds after the first frame, more than `start`; may lie after the movie's end.

        Raises:
            VideoError: The movie ends at or before `start`.
        """
        index = self.index
        # Fractions keep the division exact, so a start at a whole number of seconds does not fall one tick short, which
        # would take the frame before.
        first_tick = index.start + int(Fraction(start) / index.time_base)
        end_tick = index.start + int(Fraction(end) / index.time_base)
        if first_tick >= index.end:
            rule = f"clip from {start:g} to {end:g} s: the video ends after {self.info.duration:.3g} s"
            raise VideoError.of("video", self.path, rule, "use the whole video")
        # A clip shorter than a tick still holds one, so at least one frame is on screen in it.
        end_tick = max(first_tick + 1, min(end_tick, index.end))
        return dataclasses.replace(self, clip=(first_tick, end_tick))

    def sample(self, preprocessing: Preprocessing, times: Sequence[float] | None = None) -> NDArray[np.intp]:
        """Returns the frame that each sample takes.

        Args:
            preprocessing: Choice of the frames: a regular grid, with or without the last frame; or all of them, where
                segments will be cut from them.
            times: Ascending times of the samples, in seconds after the first frame, which replace that choice.

        Returns:
            Ascending frame numbers in presentation order, intp `[samples]`.

        Raises:
            VideoError: The grid has more samples than `vis4mer.video.sampling.MAX_SAMPLES`.
        """
        index = self.index
        shown = index.times[index.order]
        if times is not None:
            return shown_at(shown, at_seconds(index.start, times, index.time_base))
        start, end = self.clip or (index.start, index.end)  # the end is exclusive
        # The interval is half-open, so the frame on screen as it ends is the one at its last tick.
        first, last = shown_at(shown, np.array([start, end - 1], np.int64))
        if preprocessing.segments is not None:
            return np.arange(first, last + 1)
        self._check_number_of_samples(start, end, preprocessing.fps)
        numbers = shown_at(shown, grid(start, end, preprocessing.fps, index.time_base))
        # All times of the grid lie before `end`, so no number exceeds `last` and the result stays ascending.
        return np.append(numbers, last) if preprocessing.last_frame else numbers

    def _check_number_of_samples(self, start: int, end: int, fps: float) -> None:
        # A few bytes hold a frame that is shown for ten minutes, so a small forged file could stand for years.
        count = n_samples(start, end, fps, self.index.time_base)
        if count > MAX_SAMPLES:
            days = float((end - start) * self.index.time_base) / 86_400
            rule = f"lasts {days:,.0f} days, or {count:,} frames at fps={fps:g}; at most {MAX_SAMPLES:,} are sampled"
            raise VideoError.of("video", self.path, rule, "cut it into shorter files")


def scan(path: str | os.PathLike[str]) -> Movie:
    """Reads a movie's packets and decodes its first frame.

    Args:
        path: Path of a regular local file, never interpreted as an address or a pattern.

    Raises:
        VideoError: The file cannot be opened, or none of its frames can be decoded.
    """
    name = os.fspath(path)
    with open_container(name) as container:
        stream = movie_stream(container, name)
        codec = stream.codec_context.codec.canonical_name
        n_streams = len(movie_streams(container))
        index = index_packets(container, stream, name)
    frame = _first_frame(name, index)
    full_range = _has_full_range(frame)
    range_is_coded = full_range and _has_full_range(_first_frame(name, index, keep_range=False))
    display = display_matrix(frame)
    width, height = (frame.height, frame.width) if _is_on_its_side(display) else (frame.width, frame.height)
    info = VideoInfo(
        path=name,
        codec=codec,
        width=width,
        height=height,
        duration=float((index.end - index.start) * index.time_base),
        start=float(index.start * index.time_base),
        fps=_average_fps(index),
        rotation=_rotation(display),
        pixel_format=frame.format.name,
        video_streams=n_streams,
    )
    return Movie(name, index, info, display, frame.colorspace, full_range, range_is_coded)


def _average_fps(index: PacketIndex) -> float | None:
    """Returns frames per second from the first frame's start to the last frame's start; None if they coincide."""
    last_start = int(index.times[index.order[-1]])
    seconds = (last_start - index.start) * index.time_base
    return float((len(index.order) - 1) / seconds) if seconds else None


def _is_on_its_side(display: DisplayMatrix) -> bool:
    a, b, _, _ = display
    # The stored x axis then runs mostly along the shown y axis.
    return abs(b) > abs(a)


def _rotation(display: DisplayMatrix) -> int:
    """Returns the clockwise rotation of a display matrix, to the nearest quarter turn, in degrees."""
    a, b, _, _ = display
    if _is_on_its_side(display):
        return 90 if b > 0 else 270
    return 180 if a < 0 else 0


def display_matrix(frame: VideoFrame) -> DisplayMatrix:
    """Returns (a, b, c, d) of a frame's display matrix, as `vis4mer.video.resize.upright` takes it.

    A frame without one is shown as it is stored: the identity.
    """
    try:
        return _stored_display_matrix(frame)
    except ContentError:
        # One piece of side data that PyAV has no name for, such as a photo's EXIF data, hides the others. The rotation
        # is still found; only mirroring is lost.
        return _quarter_turn(frame.rotation)


@content_call
def _stored_display_matrix(frame: VideoFrame) -> DisplayMatrix:
    # `frame.side_data` would store the container in the frame that the container refers to. Only the garbage collector
    # ends such a cycle, and it counts objects, not bytes: it lets hundreds of pictures pile up, of megabytes each.
    container: Any = SideDataContainer
    data: Any = container(frame).get("DISPLAYMATRIX")
    if data is None:
        return IDENTITY
    matrix = np.frombuffer(data, np.int32)  # 3 x 3, in rows; the third column is a projection, which is not used
    # The four entries are 16.16 fixed-point numbers. `upright` only compares their signs and magnitudes, so they need
    # no scaling.
    return int(matrix[0]), int(matrix[1]), int(matrix[3]), int(matrix[4])


def _quarter_turn(degrees: int) -> DisplayMatrix:
    """Returns the display matrix of a counterclockwise rotation, to the nearest quarter turn."""
    cosine, sine = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    return cosine, -sine, sine, cosine


def _has_full_range(frame: VideoFrame) -> bool:
    return frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")


def _first_frame(path: str, index: PacketIndex, *, keep_range: bool = True) -> VideoFrame:
    """Decodes from the first entry until a frame comes out.

    Args:
        path: Path of the file.
        index: Index of its packets.
        keep_range: Whether the video decoder starts from the range that the container declares, if any.
    """
    first = int(np.argmax(index.entry))
    # Indexing has read its container to the end, and ordinals hold only if packets are counted from the beginning.
    with open_container(path) as container:
        stream = movie_stream(container, path)
        stream.codec_context.thread_count = 1  # threads would decode further frames in vain
        if not keep_range:
            stream.codec_context.color_range = ColorRange.UNSPECIFIED
        drain = None
        # A video decoder may hold back all frames of a short file until it is drained.
        for ordinal, packet in enumerate(chain(packets(container, stream), (drain,))):
            if ordinal < first:
                continue
            try:
                # A packet that is rejected does not end the search: a later one may still yield a frame.
                frames = decode(stream.codec_context, packet)
            except ContentError:
                continue
            if frames:
                return frames[0]
    remedy = f"pass a complete movie file, with pictures of at most {MAX_PIXELS:,} pixels"
    raise VideoError.of("video", path, "none of its frames can be decoded", remedy)
