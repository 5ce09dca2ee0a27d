"""Frame headers of VP9 and AV1, whose packets hold any number of hidden frames beside the one that they show."""

from collections.abc import Iterator
from typing import NamedTuple

from vis4mer.video.bitreader import BitReader
from vis4mer.video.facts import CHANGED_HEADER, REPEATED_PICTURE, SEVERAL_PICTURES, PacketFacts

_HEADER_BYTES = 32  # more than the part of a frame's header that is read here


class _Frame(NamedTuple):
    """What a frame's header states.

    Attributes:
        repeats: Whether it shows an earlier frame again, instead of coding one.
        shown: Whether the frame is shown.
        size: Width and height in pixels; None if they are those of a frame that it refers to.
    """

    repeats: bool
    shown: bool
    size: tuple[int, int] | None = None


def _oddity(frames: list[_Frame]) -> str:
    """Returns what is odd about the frames of one packet.

    A GPU video decoder returns each coded frame, hidden or not. The last one of a packet replaces those before it, so
    hidden frames do no harm if a shown one follows. A repetition codes nothing, so nothing is returned for it.
    """
    if any(frame.repeats for frame in frames):
        return REPEATED_PICTURE
    only_the_last_is_shown = [frame.shown for frame in frames] == [False] * (len(frames) - 1) + [True]
    return "" if only_the_last_is_shown else SEVERAL_PICTURES


class VP9Inspector:
    """Reads the facts about VP9 packets.

    Reference: VP9 Bitstream and Decoding Process Specification, 6.2 (uncompressed header) and annex B (superframes).
    """

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None

    def __call__(self, data: bytes, key: bool) -> PacketFacts:
        """Returns the facts about one packet."""
        frames = [_vp9_frame(BitReader(frame[:_HEADER_BYTES])) for frame in _vp9_frames(data)]
        oddity = _oddity(frames)
        for frame in frames:
            self._size = self._size or frame.size
            if frame.size not in (None, self._size):
                oddity = CHANGED_HEADER
        return PacketFacts(entry=key, closed=key, shown=any(frame.shown for frame in frames), oddity=oddity)


def _vp9_frames(data: bytes) -> list[bytes]:
    """Splits a superframe into frames; its index stands at its end, between two equal bytes."""
    marker = data[-1] if data else 0
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = data[-(2 + width * count) :]
    if marker >> 5 != 0b110 or len(index) != 2 + width * count or index[0] != marker:
        return [data]
    frames, position = [], 0
    for i in range(count):
        size = int.from_bytes(index[1 + i * width : 1 + (i + 1) * width], "little")
        if size:
            frames.append(data[position : position + size])
        position += size
    return frames


def _vp9_frame(header: BitReader) -> _Frame:
    header.bits(2)  # frame_marker
    profile = header.bits(1) + 2 * header.bits(1)
    if profile == 3:
        header.flag()
    if header.flag():
        return _Frame(repeats=True, shown=True)
    key, shown, resilient = not header.flag(), header.flag(), header.flag()
    if key:
        header.bits(24)  # frame_sync_code
        _skip_vp9_colours(header, profile)
        return _Frame(False, shown, _vp9_size(header))
    intra_only = not shown and header.flag()
    if not resilient:
        header.bits(2)  # reset_frame_context
    if intra_only:
        header.bits(24)
        if profile:
            _skip_vp9_colours(header, profile)
        header.bits(8)  # refresh_frame_flags
        return _Frame(False, shown, _vp9_size(header))
    header.bits(8)
    header.bits(3 * 4)  # the three references, with their signs
    if any(header.flag() for _ in range(3)):  # `any` stops at the first reference whose size is taken
        return _Frame(False, shown)
    return _Frame(False, shown, _vp9_size(header))


def _skip_vp9_colours(header: BitReader, profile: int) -> None:
    if profile >= 2:
        header.flag()  # ten_or_twelve_bit
    if header.bits(3) != 7:  # color_space: any but RGB
        header.flag()  # color_range
        header.bits(3 if profile in (1, 3) else 0)  # subsampling
    elif profile in (1, 3):
        header.flag()


def _vp9_size(header: BitReader) -> tuple[int, int]:
    return header.bits(16) + 1, header.bits(16) + 1


class AV1Inspector:
    """Reads the facts about AV1 packets, which are temporal units.

    Reference: AV1 Bitstream and Decoding Process Specification, 5.3 (OBU), 5.5 (sequence header), 5.9.2 (frame header).

    Args:
        extradata: Stream's extradata.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sequence: bytes | None = None
        self._still = False
        for kind, payload in obus(sequence_obus(extradata)):
            if kind == SEQUENCE_HEADER:
                self._read_sequence(payload)
        # Encoders write the extradata before they have settled on a header, so only the packets count for changes.
        self._sequence = None

    def __call__(self, data: bytes, key: bool) -> PacketFacts:
        """Returns the facts about one packet."""
        frames, oddity = [], ""
        for kind, payload in obus(data):
            if kind == SEQUENCE_HEADER:
                oddity = oddity or self._read_sequence(payload)
            elif kind in (3, 6):  # OBU_FRAME_HEADER and OBU_FRAME
                frames.append(self._frame(BitReader(payload[:1])))
        return PacketFacts(entry=key, closed=key, oddity=oddity or _oddity(frames))

    def _read_sequence(self, payload: bytes) -> str:
        """Reads a sequence header; returns the oddity if it is another one than before."""
        if self._sequence is None:
            self._sequence = payload
            header = BitReader(payload[:1])
            header.bits(4)  # seq_profile, still_picture
            self._still = header.flag()  # reduced_still_picture_header
        return "" if payload == self._sequence else CHANGED_HEADER

    def _frame(self, header: BitReader) -> _Frame:
        if self._still:
            return _Frame(repeats=False, shown=True)
        if header.flag():
            return _Frame(repeats=True, shown=True)
        header.bits(2)  # frame_type
        return _Frame(repeats=False, shown=header.flag())


SEQUENCE_HEADER = 1  # obu_type
TEMPORAL_DELIMITER = 2


def sequence_obus(extradata: bytes) -> bytes:
    """Returns the OBUs of a stream's extradata, which may begin with the four bytes of an av1C record."""
    return extradata[4:] if extradata[:1] == b"\x81" else extradata


def obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields type and payload of each open bitstream unit (OBU) of a packet."""
    position = 0
    while position < len(data):
        header = data[position]
        position += 2 if header >> 2 & 1 else 1  # obu_extension_flag
        size = len(data) - position
        if header >> 1 & 1:  # obu_has_size_field
            size, position = _leb128(data, position)
        yield header >> 3 & 15, data[position : position + size]
        position += size


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """Returns a number in the LEB128 code that starts at `position`, and the position after it."""
    value = 0
    for i in range(8):
        byte = data[position] if position < len(data) else 0
        value, position = value | (byte & 127) << 7 * i, position + 1
        if byte < 128:
            break
    return value, position
