"""Clips: the planned packets of a movie, cut into small movies in memory for a decoder that only reads whole files."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.ffmpeg import content_call
from vis4mer.video.index import packets
from vis4mer.video.movie import Movie
from vis4mer.video.planner import DecodePlan

# Milliseconds between the frames of a clip. Its reader takes positions, not times, so any constant serves.
_FRAME_MS = 40


@dataclass(frozen=True)
class Clip:
    """A run of packets as a small movie of its own.

    Attributes:
        data: Matroska file, uint8 `[bytes]`.
        numbers: Wanted frames as frame numbers of the movie, intp `[wanted]`, ascending.
        places: The same frames as positions in the clip's presentation order, int32 `[wanted]`, ascending.
    """

    data: NDArray[np.uint8]
    numbers: NDArray[np.intp]
    places: NDArray[np.int32]


def cut(movie: Movie, plan: DecodePlan, wanted: NDArray[np.intp], max_frames: int) -> Iterator[Clip]:
    """Yields the clips of all runs of packets in a plan; a run ends where the plan drains the video decoder.

    Args:
        movie: Scanned movie.
        plan: Packets to decode.
        wanted: Wanted frame numbers, intp `[wanted]`.
        max_frames: Largest number of wanted frames in a clip.

    Raises:
        ContentError: FFmpeg cannot write the packets.
    """
    run: list[int] = []  # ordinals
    held: list[av.Packet[VideoStream]] = []
    with open_container(movie.path) as container:
        stream = movie_stream(container, movie.path)
        for ordinal, packet in enumerate(packets(container, stream)):
            if plan.send[ordinal]:
                run.append(ordinal)
                held.append(packet)
            if plan.drain[ordinal]:
                yield from _clips_of_run(movie, stream, np.array(run), held, wanted, max_frames)
                run, held = [], []
            if ordinal == plan.last:
                return


def _clips_of_run(
    movie: Movie,
    stream: VideoStream,
    run: NDArray[np.intp],
    held: "Sequence[av.Packet[VideoStream]]",
    wanted: NDArray[np.intp],
    max_frames: int,
) -> Iterator[Clip]:
    """Yields one clip, or several with the same data if more frames are wanted than `max_frames`."""
    index = movie.index
    places = _ranks(index.times[run])
    data = _remux(stream, held, places)
    # A run also holds packets that are sent only as references. Their frames are decoded but not requested.
    is_wanted = np.isin(index.numbers[run], wanted)
    numbers, places = index.numbers[run[is_wanted]], places[is_wanted]
    # Packets come in decoding order, but a reader yields frames in presentation order.
    in_order = np.argsort(places)
    for part in np.array_split(in_order, range(max_frames, len(in_order), max_frames)):
        yield Clip(data, numbers[part], places[part].astype(np.int32))


def _ranks(times: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns each packet's position in presentation order, intp `[packets]`."""
    order = np.argsort(times, kind="stable")
    return np.argsort(order)  # the inverse of a permutation


@content_call
def _remux(
    template: VideoStream, held: "Sequence[av.Packet[VideoStream]]", places: NDArray[np.intp]
) -> NDArray[np.uint8]:
    """Writes packets to a Matroska file in memory.

    Args:
        template: Stream that the packets come from.
        held: Packets in decoding order.
        places: Their positions in presentation order, intp `[packets]`.

    Returns:
        The file, uint8 `[bytes]`.

    Raises:
        ContentError: FFmpeg cannot write the packets.
    """
    file = io.BytesIO()
    # Decoding times are the packets' positions. A frame must not be shown before it is decoded, so presentation is
    # delayed by as many frames as reordering brings any frame forward.
    delay = int(np.max(np.arange(len(places)) - places))
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream_from_template(template)
        for i, packet in enumerate(held):
            # The original timestamps may repeat, jump or be missing, so times made from the ranks replace them.
            # Matroska counts in milliseconds, so times in that unit are written without rounding.
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = (int(places[i]) + delay) * _FRAME_MS, i * _FRAME_MS
            packet.duration = _FRAME_MS
            packet.stream = stream
            container.mux(packet)
    return np.frombuffer(file.getbuffer(), np.uint8)
