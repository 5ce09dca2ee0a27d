"""One pass over a movie's packets, without decoding: when each frame is shown and how frames depend on each other."""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vis4mer.errors import VideoError
from vis4mer.video.bitstream import PacketFacts, inspector
from vis4mer.video.sampling import MAX_STILL, NO_TIME, Ticks, presentation_times

_DEFAULT_RATE = Fraction(25)  # frames a second, where neither the container nor the timestamps tell
_TRUNCATION = Fraction(1, 2)  # seconds by which headers overstate the duration of intact files


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream, in decoding order: about 20 bytes each.

    Attributes:
        times: int64 [packets], presentation time in ticks.
        entry: bool [packets], random access points; the first packet that can be decoded is one.
        closed: bool [packets], entries whose leading pictures need nothing before the entry.
        disposable: bool [packets], frames that no other frame refers to.
        order: intp [frames], the packets whose frames are shown, in presentation order.
        end: when the last frame's time is over, in ticks.
        time_base: seconds per tick.
        counted: the file holds no timestamps: frames are shown in the order in which they are decoded, at the
            container's frame rate.
        corrupt: number of packets that the container marks as damaged.
        truncated: the file ends before the duration that its header declares.
    """

    times: Ticks
    entry: NDArray[np.bool_]
    closed: NDArray[np.bool_]
    disposable: NDArray[np.bool_]
    order: NDArray[np.intp]
    end: int
    time_base: Fraction
    counted: bool
    corrupt: int
    truncated: bool

    @property
    def start(self) -> int:
        """When the first frame is shown, in ticks."""
        return int(self.times[self.order[0]])

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """Each packet's frame number in presentation order, intp [packets]; -1 where it shows none."""
        numbers = np.full(len(self.times), -1, np.intp)
        numbers[self.order] = np.arange(len(self.order))
        return numbers

    def seconds(self, ordinal: int) -> float:
        """When a packet's frame is shown, in seconds after the first frame."""
        return float((int(self.times[ordinal]) - self.start) * self.time_base)


def packets(container: InputContainer, stream: VideoStream) -> "Iterator[av.Packet[VideoStream]]":
    """The stream's packets that hold data, in decoding order; ends early where the file is damaged beyond reading.

    Two passes over the same file give the same packets, so a packet's ordinal identifies it.
    """
    return (packet for packet in _all_packets(container) if packet.stream_index == stream.index and packet.size)


def _all_packets(container: InputContainer) -> "Iterator[av.Packet[Any]]":
    demuxed = container.demux()
    while True:
        try:
            packet = next(demuxed)
        except (StopIteration, av.FFmpegError):
            return
        yield packet


def index_packets(container: InputContainer, stream: VideoStream, path: str | os.PathLike[str]) -> PacketIndex:
    """Reads all packets of a freshly opened container.

    Raises:
        VideoError: the stream holds no packet that can be decoded.
    """
    # Few bytes a packet: a movie of hours has a million of them.
    pts, dts, discarded, kinds = array("q"), array("q"), array("B"), array("B")
    facts: dict[PacketFacts, int] = {}  # all that occur, in the order of their kinds; there cannot be 256
    corrupt, duration, latest = 0, 0, Fraction(0)
    inspect = inspector(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
    for packet in _all_packets(container):
        if packet.pts is not None:
            latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream_index != stream.index or not packet.size:
            continue
        pts.append(NO_TIME if packet.pts is None else packet.pts)
        dts.append(NO_TIME if packet.dts is None else packet.dts)
        kinds.append(facts.setdefault(inspect(bytes(packet), packet.is_keyframe), len(facts)))
        discarded.append(packet.is_discard)
        corrupt += packet.is_corrupt
        duration = packet.duration or 0
    if not pts:
        raise VideoError(f"video={os.fspath(path)!r}: its video stream holds no frames; give a complete movie file")

    time_base = stream.time_base or Fraction(1, 90_000)
    counted = all(stamp == NO_TIME for stamps in (pts, dts) for stamp in stamps)
    rate = (None if counted else stream.average_rate) or stream.guessed_rate or _DEFAULT_RATE
    frame_ticks = max(1, round(1 / (rate * time_base)))
    times = presentation_times(pts, dts, frame_ticks, time_base)
    entry, closed, disposable, shown = _columns(list(facts), np.array(kinds))
    first = int(np.argmax(entry))
    if counted:
        order = np.arange(len(pts))
    else:
        entry[first] = True
        decodable = np.arange(len(pts)) >= first
        if not closed[first]:  # its leading pictures refer to what the file does not hold
            second = int(np.argmax(np.append(entry[first + 1 :], True))) + first + 1
            decodable[first:second] &= times[first:second] >= times[first]
        shown &= decodable & ~np.array(discarded, bool)
        order = np.flatnonzero(shown)
        order = order[np.argsort(times[order], kind="stable")]
    if not len(order):
        raise VideoError(f"video={os.fspath(path)!r}: none of its frames can be decoded; give a complete movie file")
    last = min(duration or frame_ticks, int(MAX_STILL / time_base))
    end = int(times[order[-1]]) + max(1, last)
    truncated = latest < Fraction(container.duration or 0, av.time_base) - _TRUNCATION
    return PacketIndex(times, entry, closed, disposable, order, end, time_base, counted, corrupt, truncated)


def _columns(facts: Sequence[PacketFacts], kinds: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], ...]:
    entry, closed, referenced, layer, shown = (np.array(column) for column in zip(*facts, strict=True))
    disposable = ~referenced.astype(bool) & (layer == layer.max())
    return tuple(column.astype(bool)[kinds] for column in (entry, closed, disposable, shown))
