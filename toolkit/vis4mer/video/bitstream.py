"""Facts about a compressed packet, read from its first bytes without decoding it.

The flags of containers do not suffice to plan decoding. They mark an H.264 packet as a key frame if decoding may start
there, even where the picture is right only many frames later; and most do not record whether other frames refer to a
frame. The bitstream does, in headers of a few bytes.

The parsers see untrusted bytes. On invalid data they return arbitrary facts, but never raise an exception or loop:
every offset is checked, and every loop advances.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class PacketFacts(NamedTuple):
    """Facts about one packet.

    Attributes:
        entry: Whether decoding can start here such that this frame and all frames shown after it come out right.
        closed: Whether it is an entry whose leading pictures do not refer to anything before it either.
        referenced: Whether other frames may refer to this one, or it carries parameters that they need.
        layer: Temporal sub-layer. A frame that is unreferenced within its own may still be referenced from higher ones.
        shown: Whether the packet yields a frame; some codecs have packets that only update the decoder's references.
    """

    entry: bool
    closed: bool
    referenced: bool = True
    layer: int = 0
    shown: bool = True


Inspect = Callable[[bytes, bool], PacketFacts]


def inspector(codec: str, extradata: bytes | None) -> Inspect:
    """Returns the function that maps a packet's bytes and its container's key-frame flag to its facts.

    Args:
        codec: FFmpeg's name of the codec. For an unsupported one, every key frame is a closed entry and every frame
            counts as referenced, which is safe: nothing that might be needed is skipped.
        extradata: Stream's extradata, which determine how H.264 and HEVC packets are divided into NAL units.
    """
    extradata = extradata or b""
    match codec:
        # The configuration records avcC and hvcC begin with version 1 and hold the size of the length fields, minus
        # one, in two bits. Anything else is Annex B.
        case "h264":
            length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0
            return lambda data, key: _h264(_nal_units(data, length_bytes), key)
        case "hevc":
            length_bytes = (extradata[21] & 3) + 1 if len(extradata) > 21 and extradata[0] == 1 else 0
            return lambda data, key: _hevc(_nal_units(data, length_bytes), key)
        case "mpeg4":
            return _mpeg4
        case "mpeg1video" | "mpeg2video":
            return _mpeg2
        case "vp8":
            return _vp8
    return lambda data, key: PacketFacts(entry=key, closed=key)


def _nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """Splits a packet into NAL units, copying only those that the caller takes.

    Args:
        data: Packet.
        length_bytes: Size of the length field before each unit, or 0 for start codes (Annex B).
    """
    if length_bytes:
        position = 0
        while position + length_bytes < len(data):
            begin = position + length_bytes
            position = begin + int.from_bytes(data[position:begin], "big")
            yield data[begin:position]
        return
    begin = data.find(b"\0\0\1") + 3
    while begin >= 3:
        end = data.find(b"\0\0\1", begin)
        yield data[begin:end] if end >= 0 else data[begin:]
        begin = end + 3


def _h264(units: Iterator[bytes], key: bool) -> PacketFacts:
    """Returns the facts about an H.264 access unit.

    An IDR picture is a closed entry: it empties the decoder. Another key frame is an entry, though an open one, only if
    a recovery point promises right pictures at once. With intra refresh the promise holds only many frames later.

    Reference: ITU-T H.264, 7.4.1 (nal_unit_type, nal_ref_idc) and D.2.8 (recovery point).
    """
    instant, recovers, slices, referenced = False, False, False, False
    for unit in units:
        kind = unit[0] & 31 if unit else 0
        if 1 <= kind <= 5:
            slices = True
            instant |= kind == 5
            referenced |= unit[0] >> 5 & 3 != 0
        elif kind == 6:
            recovers |= key and _recovers_at_once(unit)
        elif kind not in (9, 12):  # neither access unit delimiter nor filler: parameters, or an end of sequence
            referenced = True
        if referenced and not key:
            break  # the remaining units cannot change the facts
    # A packet without slices is a fragment; keeping it is the safe choice.
    return PacketFacts(key and (instant or recovers), key and instant, referenced or not slices)


def _recovers_at_once(sei: bytes) -> bool:
    """Returns whether an SEI unit holds a recovery point with recovery_frame_cnt = 0.

    A unit holds messages, each with a type and a size before it. Both are coded as a sum: a byte of 255 means that more
    follow.
    """
    payload = sei[1:].replace(b"\0\0\3", b"\0\0")  # removes the emulation prevention bytes
    position = 0
    while position + 2 < len(payload):
        kind, position = _sei_number(payload, position)
        size, position = _sei_number(payload, position)
        if position >= len(payload):
            return False
        if kind == 6:
            return payload[position] >> 7 == 1  # the one-bit Exp-Golomb code of zero
        position += size
    return False


def _sei_number(payload: bytes, position: int) -> tuple[int, int]:
    """Returns an SEI message's type or size that starts at `position`, and the position after it."""
    number = 0
    while position < len(payload):
        byte = payload[position]
        number, position = number + byte, position + 1
        if byte != 255:
            break
    return number, position


def _hevc(units: Iterator[bytes], key: bool) -> PacketFacts:
    """Returns the facts about an HEVC access unit; its picture type is part of every slice's NAL unit type.

    Reference: ITU-T H.265, table 7-1 (nal_unit_type).
    """
    entry, closed, slices, referenced, layer = False, False, False, False, 0
    for unit in units:
        if len(unit) < 2:
            continue
        kind = unit[0] >> 1 & 63
        if kind < 32:
            slices = True
            layer = (unit[1] & 7) - 1
            entry |= 16 <= kind <= 21  # BLA, IDR or CRA
            closed |= kind in (19, 20)  # IDR; a CRA picture has leading pictures that reach back
            referenced |= kind > 14 or kind % 2 == 1  # up to 14, even types are sub-layer non-reference pictures
        elif kind not in (35, 38, 39, 40):  # neither delimiter, filler nor SEI
            referenced = True
        if slices and referenced:
            break
    return PacketFacts(key and entry, key and closed, referenced or not slices, layer)


def _mpeg4(data: bytes, key: bool) -> PacketFacts:
    """Returns the facts about an MPEG-4 Part 2 packet: 0 codes an I-VOP, 1 a P-VOP, 2 a B-VOP.

    Reference: ISO/IEC 14496-2, 6.2.5 (vop_coding_type).
    """
    start = data.find(b"\0\0\1\xb6")
    coding = data[start + 4] >> 6 if 0 <= start < len(data) - 4 else 1
    return PacketFacts(entry=key and coding == 0, closed=False, referenced=coding != 2)


def _mpeg2(data: bytes, key: bool) -> PacketFacts:
    """Returns the facts about an MPEG-1 or MPEG-2 packet: 1 codes an I-picture, 2 a P-picture, 3 a B-picture.

    Reference: ITU-T H.262, 6.2.2.6 (closed_gop) and 6.2.3 (picture_coding_type).
    """
    start, group = data.find(b"\0\0\1\0"), data.find(b"\0\0\1\xb8")
    coding = data[start + 5] >> 3 & 7 if 0 <= start < len(data) - 5 else 2
    closed = 0 <= group < len(data) - 7 and bool(data[group + 7] >> 6 & 1)
    entry = key and coding == 1
    return PacketFacts(entry=entry, closed=entry and closed, referenced=coding != 3)


def _vp8(data: bytes, key: bool) -> PacketFacts:
    """Returns the facts about a VP8 packet, which may be an alternative reference frame that is never shown.

    Reference: RFC 6386, 9.1 (show_frame).
    """
    return PacketFacts(entry=key, closed=key, shown=bool(data) and bool(data[0] >> 4 & 1))
