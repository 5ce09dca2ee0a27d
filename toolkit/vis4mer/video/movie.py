"""A movie as it stands before decoding: its packets, its properties, and which frames the samples take."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, Self

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.errors import VideoError
from vis4mer.video.container import movie_stream, movie_streams, open_container
from vis4mer.video.frames import VideoInfo
from vis4mer.video.index import PacketIndex, index_packets, packets
from vis4mer.video.resize import IDENTITY, DisplayMatrix
from vis4mer.video.sampling import at_seconds, grid, shown_at


@dataclass(frozen=True)
class Movie:
    """What both readers start from, so that they take the same frames at the same times.

    Attributes:
        path: as given.
        index: of its packets.
        info: its properties as shown.
        display: brings stored pictures upright.
        colour_matrix: FFmpeg's AVColorSpace of the stored pixels.
        clip: start and end of what is sampled, in ticks; None for all of it.
    """

    path: str
    index: PacketIndex
    info: VideoInfo
    display: DisplayMatrix
    colour_matrix: int
    clip: tuple[int, int] | None = None

    def cut(self, start: float, end: float) -> Self:
        """Returns the movie with only what is shown from `start` to `end` to be sampled, in seconds after its start.

        Raises:
            VideoError: the movie is over before `start`.
        """
        first, over, base = self.index.start, self.index.end, self.index.time_base
        begin = first + int(Fraction(start) / base)
        if begin >= over:
            rule = f"clip from {start:g} to {end:g} s: the video ends after {self.info.duration:.3g} s"
            raise VideoError(f"video={self.path!r}: {rule}; give the whole video")
        return dataclasses.replace(self, clip=(begin, max(begin + 1, min(over, first + int(Fraction(end) / base)))))

    def sample(self, preprocessing: Preprocessing, times: Sequence[float] | None = None) -> NDArray[np.intp]:
        """Which frame each sample takes.

        Args:
            preprocessing: says which frames: those of a regular grid, with the last one or not; or, where segments
                will be cut from them, all.
            times: ascending seconds after the first frame, instead.

        Returns:
            intp [samples], ascending numbers of frames in presentation order.
        """
        index = self.index
        shown, (start, end) = index.times[index.order], self.clip or (index.start, index.end)
        first, last = shown_at(shown, np.array([start, end - 1], np.int64))
        if times is not None:
            return shown_at(shown, at_seconds(index.start, times, index.time_base))
        if preprocessing.segments is not None:
            return np.arange(first, last + 1)
        numbers = shown_at(shown, grid(start, end, preprocessing.fps, index.time_base))
        return np.append(numbers, last) if preprocessing.last_frame else numbers


def scan(path: str | os.PathLike[str]) -> Movie:
    """Reads a movie's packets and decodes its first frame.

    Raises:
        VideoError: it cannot be opened, or not one of its frames can be decoded.
    """
    name = os.fspath(path)
    with open_container(name) as container:
        stream = movie_stream(container, name)
        codec, count = stream.codec_context.codec.canonical_name, len(movie_streams(container))
        index = index_packets(container, stream, name)
    frame = _first_frame(name, index)
    display = display_matrix(frame)
    a, b = display[:2]
    width, height = (frame.height, frame.width) if abs(b) > abs(a) else (frame.width, frame.height)
    shown_ticks = int(index.times[index.order[-1]]) - index.start
    info = VideoInfo(
        path=name,
        codec=codec,
        width=width,
        height=height,
        duration=float((index.end - index.start) * index.time_base),
        start=float(index.start * index.time_base),
        fps=float((len(index.order) - 1) / (shown_ticks * index.time_base)) if shown_ticks else None,
        rotation=(0 if a > 0 else 180) if abs(a) >= abs(b) else (90 if b > 0 else 270),
        pixel_format=frame.format.name,
        video_streams=count,
    )
    return Movie(name, index, info, display, frame.colorspace)


def display_matrix(frame: VideoFrame) -> DisplayMatrix:
    """(a, b, c, d) of a frame's display matrix, the identity where it has none."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return IDENTITY
    matrix = np.frombuffer(data, np.int32)
    return int(matrix[0]), int(matrix[1]), int(matrix[3]), int(matrix[4])


def _first_frame(path: str, index: PacketIndex) -> VideoFrame:
    first = int(np.argmax(index.entry))
    with open_container(path) as container:
        stream = movie_stream(container, path)
        stream.codec_context.thread_count = 1
        for ordinal, packet in enumerate(chain(packets(container, stream), (None,))):
            if ordinal < first:
                continue
            try:
                frames = stream.codec_context.decode(packet)
            except av.FFmpegError:
                continue
            if frames:
                return frames[0]
    raise VideoError(f"video={path!r}: none of its frames can be decoded; give a complete movie file")
