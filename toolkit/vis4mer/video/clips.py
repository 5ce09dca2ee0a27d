"""Clips: the planned packets of a movie, cut into small movies in memory for a decoder that only reads whole files.

NVIDIA's video decoder, as DALI drives it, does not return with a picture which packet it came from: DALI assumes that
the pictures are those of the packets, one each, in decoding order. A packet without a picture would shift the times of
all pictures after it. So every clip decodes on its own, each packet to one picture:

* It holds one GOP, from its entry on, with all headers in its first packet.
* Leading pictures of an open GOP, which refer to the GOP before, are left out: decoders skip them, or invent them.
* If such pictures are wanted, the clip of the GOP before holds them too, after the entry that precedes them:

      decoding order          I0 P2 b1 P4 b3 | I7 b5 b6 P9 b8
      wanted                        b1             b6 P9
      clips                   I0 P2 b1 P4 I7 b6, and I7 P9

DALI looks for frames far ahead by seeking to the last key frame before them. In such a clip that is always the first
frame, so it never resumes decoding in the middle, where pictures would be missing again.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.ffmpeg import content_call
from vis4mer.video.headers import Headers
from vis4mer.video.index import Flags, PacketIndex, packets
from vis4mer.video.movie import Movie
from vis4mer.video.planner import DecodePlan

# Milliseconds between the frames of a clip. Its reader takes positions, not times, so any constant serves.
_FRAME_MS = 40


@dataclass(frozen=True)
class Clip:
    """Some packets as a small movie of its own.

    Attributes:
        data: Matroska file, uint8 `[bytes]`.
        numbers: Wanted frames as frame numbers of the movie, intp `[wanted]`, ascending.
        places: The same frames as positions in the clip's presentation order, int32 `[wanted]`, ascending.
    """

    data: NDArray[np.uint8]
    numbers: NDArray[np.intp]
    places: NDArray[np.int32]


class _Span(NamedTuple):
    """The packets of a clip, by ordinal.

    Attributes:
        packets: Packets in decoding order, intp `[packets]`.
        wanted: Flags of those that hold the wanted frames, bool `[packets]`.
    """

    packets: NDArray[np.intp]
    wanted: Flags


def cut(movie: Movie, plan: DecodePlan, wanted: NDArray[np.intp], max_frames: int) -> Iterator[Clip]:
    """Yields the clips that hold some frames, in presentation order.

    Args:
        movie: Scanned movie, not `PacketIndex.counted`.
        plan: Plan for the wanted frames.
        wanted: Wanted frame numbers, intp `[wanted]`.
        max_frames: Largest number of wanted frames in a clip. If a GOP holds more, several clips have the same data.

    Raises:
        ContentError: FFmpeg cannot write the packets.
    """
    spans = _spans(movie.index, plan, wanted)
    span = next(spans, None)
    held: dict[int, bytes] = {}  # packets by ordinal
    openings: dict[int, bytes] = {}  # entries among them, with the headers that apply there
    with open_container(movie.path) as container:
        stream = movie_stream(container, movie.path)
        headers = Headers(movie.info.codec, stream.codec_context.extradata)
        for ordinal, packet in enumerate(packets(container, stream)):
            if span is None:
                return
            data = bytes(packet) if plan.send[ordinal] or movie.index.entry[ordinal] else b""
            if movie.index.entry[ordinal]:
                headers.update(data)
                openings = {ordinal: headers.complete(data)} | {
                    earlier: opening for earlier, opening in openings.items() if earlier >= span.packets[0]
                }
            if plan.send[ordinal]:
                held[ordinal] = data
            # The clip of a GOP may need a later packet than that of the next one, if leading pictures come late.
            while span is not None and span.packets[-1] <= ordinal:
                opening, *others = span.packets.tolist()
                contents = [openings[opening], *(held[other] for other in others)]
                yield from _clips_of_span(movie.index, stream, span, contents, max_frames)
                span = next(spans, None)
                first_needed = ordinal + 1 if span is None else span.packets[0]
                held = {earlier: data for earlier, data in held.items() if earlier >= first_needed}


def _spans(index: PacketIndex, plan: DecodePlan, wanted: NDArray[np.intp]) -> Iterator[_Span]:
    """Yields the packets of each clip, in decoding order."""
    is_wanted = np.isin(index.numbers, wanted)
    starts = np.flatnonzero(index.entry)
    ends = np.append(starts[1:], len(index.times))  # exclusive
    gop = np.cumsum(index.entry) - 1  # of each packet; -1 before the first entry, where nothing is wanted
    # Leading pictures need the GOP before, unless theirs is closed.
    needs_more = ~index.closed[starts[gop]] & (index.times < index.times[starts[gop]])
    decoded_alone, wanted_leading = plan.send & ~needs_more, is_wanted & needs_more
    decoded_alone[starts] = True  # also an entry that nothing refers to: decoders begin at no other picture
    for i in np.unique(gop[is_wanted] - needs_more[is_wanted]).tolist():
        own = _ordinals(decoded_alone, starts[i], ends[i])
        leading = _ordinals(wanted_leading, ends[i], ends[min(i + 1, len(ends) - 1)])
        following = _ordinals(plan.send, ends[i], leading[-1] + 1) if len(leading) else leading
        yield _Span(np.concatenate([own, following]), np.concatenate([is_wanted[own], np.isin(following, leading)]))


def _ordinals(flags: Flags, start: int, end: int) -> NDArray[np.intp]:
    """Returns the ordinals from `start` to `end`, exclusive, whose flag is set, intp `[packets]`."""
    return start + np.flatnonzero(flags[start:end])


def _clips_of_span(
    index: PacketIndex,
    stream: VideoStream,
    span: _Span,
    contents: list[bytes],
    max_frames: int,
) -> Iterator[Clip]:
    """Yields one clip, or several with the same data if more frames are wanted than `max_frames`."""
    places = _ranks(index.times[span.packets])
    data = _remux(stream, contents, places)
    # A span also holds packets that are sent only as references. Their frames are decoded but not requested.
    numbers, places = index.numbers[span.packets[span.wanted]], places[span.wanted]
    # Packets come in decoding order, but a reader yields frames in presentation order.
    in_order = np.argsort(places)
    for part in np.array_split(in_order, range(max_frames, len(in_order), max_frames)):
        yield Clip(data, numbers[part], places[part].astype(np.int32))


def _ranks(times: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns each packet's position in presentation order, intp `[packets]`."""
    order = np.argsort(times, kind="stable")
    return np.argsort(order)  # the inverse of a permutation


@content_call
def _remux(template: VideoStream, contents: list[bytes], places: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Writes packets to a Matroska file in memory.

    Args:
        template: Stream that the packets come from.
        contents: Packets in decoding order, of which the first one is an entry with all headers.
        places: Positions of the packets in presentation order, intp `[packets]`.

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
        # Without `opaque`, PyAV looks for an encoder with the name of the video decoder, which not every codec has.
        stream = container.add_stream_from_template(template, opaque=True)
        for i, content in enumerate(contents):
            packet = av.Packet(content)
            packet.is_keyframe = i == 0
            # The original timestamps may repeat, jump or be missing, so times made from the ranks replace them.
            # Matroska counts in milliseconds, so times in that unit are written without rounding.
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = (int(places[i]) + delay) * _FRAME_MS, i * _FRAME_MS
            packet.duration = _FRAME_MS
            packet.stream = stream
            container.mux(packet)
    return np.frombuffer(file.getbuffer(), np.uint8)
