"""One pass over a movie's packets without decoding: when each frame is shown, and which frames depend on others.

A compressed movie is a sequence of packets in *decoding order*, each of which usually holds one frame. Frames are shown
in *presentation order*, which differs: a B-frame refers to a frame that is shown after it, so that frame's packet comes
first. The index therefore identifies a packet by its ordinal in decoding order and a frame by its number in
presentation order, and `PacketIndex.order` maps numbers to ordinals.

The pass costs far less than decoding, and everything else follows from it: which frames the samples take (`Movie`), and
which packets those frames need (`planner`).
"""

import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vis4mer.errors import VideoError
from vis4mer.video.bitstream import PacketFacts, inspector
from vis4mer.video.ffmpeg import ContentError, demux
from vis4mer.video.sampling import MAX_STILL, NO_TIME, Ticks, presentation_times

_DEFAULT_RATE = Fraction(25)  # frames per second, if neither the container nor the timestamps hold a rate
_DEFAULT_TIME_BASE = Fraction(1, 90_000)  # seconds per tick: MPEG's clock
_TRUNCATION = Fraction(1, 2)  # seconds by which headers of intact files overstate the duration

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream, in decoding order; about 20 bytes each.

    Attributes:
        times: Presentation times in ticks, int64 `[packets]`.
        entry: Packets that are random access points, bool `[packets]`. The first decodable packet always is one.
        closed: Entries whose leading pictures refer to nothing before the entry, bool `[packets]`.
        disposable: Packets whose frames no other frame refers to, bool `[packets]`.
        order: Ordinals of the packets whose frames are shown, in presentation order, intp `[frames]`.
        end: End of the last frame's display, in ticks.
        time_base: Seconds per tick.
        counted: Whether the file holds no timestamps. Frames are then shown in the order in which the video decoder
            returns them, at the container's frame rate.
        corrupt: Number of packets that are marked as damaged or cannot be read.
        truncated: Whether the file ends before the duration that its header declares.
        oddity: What GPU video decoders do not read right, see `vis4mer.video.facts`; empty if there is nothing.
    """

    times: Ticks
    entry: Flags
    closed: Flags
    disposable: Flags
    order: NDArray[np.intp]
    end: int
    time_base: Fraction
    counted: bool
    corrupt: int
    truncated: bool
    oddity: str = ""

    @property
    def start(self) -> int:
        """Presentation time of the first frame, in ticks."""
        return int(self.times[self.order[0]])

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """Frame number of each packet in presentation order, intp `[packets]`; -1 for packets that show none."""
        numbers = np.full(len(self.times), -1, np.intp)
        numbers[self.order] = np.arange(len(self.order))
        return numbers

    def seconds(self, ordinal: int) -> float:
        """Returns the presentation time of a packet's frame, in seconds after the first frame."""
        return float((int(self.times[ordinal]) - self.start) * self.time_base)


def packets(container: InputContainer, stream: VideoStream) -> "Iterator[av.Packet[VideoStream]]":
    """Yields the stream's packets that hold data, in decoding order, as far as the file can be read.

    Every pass over a file yields the same packets, so the ordinals of one pass identify packets in another.

    Args:
        container: Freshly opened container.
        stream: Video stream in it.
    """
    wanted = stream.index
    with suppress(ContentError):  # counted as damage once, by `index_packets`
        for packet in demux(container):
            # PyAV ends each stream with an empty packet, which stands for draining the decoder and is not in the file.
            if packet.stream_index == wanted and packet.size:
                yield packet


def index_packets(container: InputContainer, stream: VideoStream, path: str | os.PathLike[str]) -> PacketIndex:
    """Reads all packets of a freshly opened container.

    Args:
        container: Freshly opened container.
        stream: Video stream to index.
        path: Path of the file, for error messages.

    Raises:
        VideoError: The stream holds no packet that can be decoded.
    """
    found = _read_packets(container, stream)
    if not found.pts:
        raise _no_frames(path, "its video stream holds no frames")
    time_base = stream.time_base or _DEFAULT_TIME_BASE
    if time_base > MAX_STILL:
        # Every frame would stand for a day or so, and a small forged file for millions of samples.
        rule = f"one tick of its clock is {float(time_base):.0f} s, and a frame may be shown for {MAX_STILL} s at most"
        raise VideoError.of("video", os.fspath(path), rule, "convert it to MP4 with a frame rate")
    # Counting forces every frame to be decoded, so it is the last resort: a single timestamp is enough for
    # `presentation_times` to extrapolate the others.
    counted = all(stamp == NO_TIME for stamps in (found.pts, found.dts) for stamp in stamps)
    frame_ticks = _frame_ticks(stream, time_base, counted)
    times = presentation_times(found.pts, found.dts, frame_ticks, time_base)
    entry, closed, disposable, shown = found.flags()
    if counted:
        # The plan decodes every packet of such a file, and the reader counts the frames that come out. The ordinals
        # here serve only to look up their evenly spaced times.
        order = np.arange(len(times))
    else:
        # Without any entry argmax is 0: decoding then has to start at the first packet, even if its output is damaged.
        first = int(np.argmax(entry))
        entry[first] = True
        shown &= _decodable(times, entry, closed, first) & ~np.array(found.discarded, bool)
        order = _presentation_order(times, shown)
    if not len(order):
        raise _no_frames(path, "none of its frames can be decoded")
    return PacketIndex(
        times=times,
        entry=entry,
        closed=closed,
        disposable=disposable,
        order=order,
        # No frame follows the last one, so a declared duration stands in for the distance to the next. That of the last
        # packet in decoding order serves, even if reordering shows another frame last.
        end=int(times[order[-1]]) + _plausible_ticks(found.last_duration or frame_ticks, time_base),
        time_base=time_base,
        counted=counted,
        corrupt=found.corrupt,
        # A header without a duration counts as 0, so it never makes a file look truncated.
        truncated=found.latest(container) < Fraction(container.duration or 0, av.time_base) - _TRUNCATION,
        oddity=found.oddity,
    )


def _no_frames(path: str | os.PathLike[str], rule: str) -> VideoError:
    return VideoError.of("video", os.fspath(path), rule, "pass a complete movie file")


@dataclass
class _Packets:
    """Columns of the packets in decoding order. Arrays keep them small: a movie of hours has a million packets.

    Attributes:
        pts: Presentation timestamps in ticks, or `NO_TIME`.
        dts: Decoding timestamps in ticks, or `NO_TIME`.
        discarded: 1 for packets that are never shown, only decoded because others need them, as edit lists may require.
        kinds: Index of each packet's facts in the order of `facts`.
        facts: All distinct facts that occur. There are a few hundred combinations, so two bytes per packet are enough.
        corrupt: Number of damaged packets.
        last_duration: Duration of the last packet in ticks, 0 if unknown.
        ends: End of the latest packet of each stream by its index, in ticks of the stream. Converting a million of them
            to seconds one by one would take as long as reading them.
    """

    pts: "array[int]" = field(default_factory=lambda: array("q"))
    dts: "array[int]" = field(default_factory=lambda: array("q"))
    discarded: "array[int]" = field(default_factory=lambda: array("B"))
    kinds: "array[int]" = field(default_factory=lambda: array("H"))
    facts: dict[PacketFacts, int] = field(default_factory=dict)
    corrupt: int = 0
    last_duration: int = 0
    ends: dict[int, int] = field(default_factory=dict)

    def latest(self, container: InputContainer) -> Fraction:
        """Returns the end of the latest packet of any stream, in seconds."""
        ends = (end * (container.streams[index].time_base or Fraction(0)) for index, end in self.ends.items())
        return max(ends, default=Fraction(0))

    @property
    def oddity(self) -> str:
        """First oddity of any packet; empty if there is none."""
        return next((facts.oddity for facts in self.facts if facts.oddity), "")

    def flags(self) -> tuple[Flags, Flags, Flags, Flags]:
        """Returns entry, closed, disposable and shown, bool `[packets]` each."""
        columns = zip(*self.facts, strict=True)  # transposes: from one tuple per kind to one column per fact
        entry, closed, referenced, layer, shown, _ = (np.array(column) for column in columns)
        # Frames of the lower temporal sub-layers are kept in any case: `referenced` covers their own layer only, and
        # higher layers may still refer to them.
        disposable = ~referenced.astype(bool) & (layer == layer.max())
        kinds = np.array(self.kinds)
        by_kind = (entry.astype(bool), closed.astype(bool), disposable, shown.astype(bool))
        entry, closed, disposable, shown = (column[kinds] for column in by_kind)
        return entry, closed, disposable, shown


def _read_packets(container: InputContainer, stream: VideoStream) -> _Packets:
    found, wanted = _Packets(), stream.index
    inspect = inspector(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
    try:
        for packet in demux(container):
            # Sound and subtitles count towards the file's duration too: its header declares that of the longest stream.
            source = packet.stream_index
            if packet.pts is not None:
                found.ends[source] = max(found.ends.get(source, 0), packet.pts + (packet.duration or 0))
            if source != wanted or not packet.size:
                continue
            facts = inspect(bytes(packet), packet.is_keyframe)
            # A new combination of facts gets the next number. `flags` relies on dictionaries keeping their insertion
            # order, which makes a combination's number its position among the keys.
            found.kinds.append(found.facts.setdefault(facts, len(found.facts)))
            found.pts.append(NO_TIME if packet.pts is None else packet.pts)
            found.dts.append(NO_TIME if packet.dts is None else packet.dts)
            found.discarded.append(packet.is_discard)
            found.corrupt += packet.is_corrupt
            found.last_duration = packet.duration or 0
    except ContentError:
        # The packets read so far remain usable. Damage that ends the reading counts once, however much is lost.
        found.corrupt += 1
    return found


def _frame_ticks(stream: VideoStream, time_base: Fraction, counted: bool) -> int:
    """Returns the usual duration of a frame in ticks, at least 1."""
    # The average rate divides the number of frames by the duration, which means nothing without timestamps.
    average_rate = None if counted else stream.average_rate
    rate = average_rate or stream.guessed_rate or _DEFAULT_RATE
    return _plausible_ticks(round(1 / (rate * time_base)), time_base)


def _plausible_ticks(duration: int, time_base: Fraction) -> int:
    """Limits a frame's declared duration, which a damaged header may exaggerate, to between 1 tick and `MAX_STILL`."""
    return max(1, min(duration, int(MAX_STILL / time_base)))


def _decodable(times: Ticks, entry: Flags, closed: Flags, first: int) -> Flags:
    """Returns which packets' frames come out whole if decoding starts at the entry `first`, bool `[packets]`.

    What precedes the first entry depends on packets that the file does not hold, as in a recording that was cut. The
    same goes for the leading pictures of that entry if it is open: they follow it in decoding order, but are shown
    before it and refer to the group before.
    """
    ordinals = np.arange(len(times))
    decodable = ordinals >= first
    if not closed[first]:
        # The first entry's leading pictures can only lie before the second entry, where another group begins.
        later_entries = np.flatnonzero(entry[first + 1 :]) + first + 1
        second = later_entries[0] if len(later_entries) else len(times)
        leading = (ordinals < second) & (times < times[first])
        decodable &= ~leading
    return decodable


def _presentation_order(times: Ticks, shown: Flags) -> NDArray[np.intp]:
    """Returns the ordinals of the shown packets, sorted by time; equal times stay in decoding order."""
    ordinals = np.flatnonzero(shown)
    return ordinals[np.argsort(times[ordinals], kind="stable")]
