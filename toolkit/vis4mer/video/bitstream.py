"""What a compressed packet says about itself, read from its first bytes without decoding it.

Container flags are not enough: they call an H.264 packet a key frame where decoding may start but the picture is right
only many frames later, and most say nothing on whether other frames refer to a frame.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class PacketFacts(NamedTuple):
    """What is known of one packet.

    Attributes:
        entry: decoding can start here, and this frame and all shown after it come out right.
        closed: an entry whose leading pictures do not refer to what precedes it either.
        referenced: other frames may refer to this one, or it carries parameters that they need.
        layer: temporal sub-layer; within one, unreferenced frames may still be referenced from higher ones.
        shown: it yields a frame (some codecs have packets that only update the decoder's references).
    """

    entry: bool
    closed: bool
    referenced: bool = True
    layer: int = 0
    shown: bool = True


Inspect = Callable[[bytes, bool], PacketFacts]


def inspector(codec: str, extradata: bytes | None) -> Inspect:
    """Returns the function that maps a packet's bytes and its container's key flag to its facts.

    Args:
        codec: FFmpeg's name of the codec; of one that is not known here, every key frame is a closed entry and every
            frame is referenced.
        extradata: of the stream: tells how H.264 and HEVC packets are divided into NAL units.
    """
    extradata = extradata or b""
    match codec:
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
    """The NAL units of a packet, each with its length before it, or (0) each after a start code (Annex B)."""
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
    """Reference: ITU-T H.264, 7.4.1 (nal_unit_type, nal_ref_idc) and D.2.8 (recovery point)."""
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
            break  # nothing left to learn
    return PacketFacts(key and (instant or recovers), key and instant, referenced or not slices)


def _recovers_at_once(sei: bytes) -> bool:
    """Whether an SEI unit holds a recovery point with recovery_frame_cnt = 0."""
    payload = sei[1:].replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(payload):
        kind, size = 0, 0
        while position < len(payload) and payload[position] == 255:
            kind, position = kind + 255, position + 1
        kind, position = kind + payload[position], position + 1
        while position < len(payload) and payload[position] == 255:
            size, position = size + 255, position + 1
        if position + 1 >= len(payload):
            return False
        size, position = size + payload[position], position + 1
        if kind == 6:
            return payload[position] >> 7 == 1  # the one-bit Exp-Golomb code of zero
        position += size
    return False


def _hevc(units: Iterator[bytes], key: bool) -> PacketFacts:
    """Reference: ITU-T H.265, table 7-1 (nal_unit_type)."""
    entry, closed, slices, referenced, layer = False, False, False, False, 0
    for unit in units:
        if len(unit) < 2:
            continue
        kind = unit[0] >> 1 & 63
        if kind < 32:
            slices = True
            layer = (unit[1] & 7) - 1
            entry |= 16 <= kind <= 21
            closed |= kind in (19, 20)
            referenced |= kind > 14 or kind % 2 == 1
        elif kind not in (35, 38, 39, 40):  # neither delimiter, filler nor SEI
            referenced = True
        if slices and referenced:
            break
    return PacketFacts(key and entry, key and closed, referenced or not slices, layer)


def _mpeg4(data: bytes, key: bool) -> PacketFacts:
    """Reference: ISO/IEC 14496-2, 6.2.5 (vop_coding_type)."""
    start = data.find(b"\0\0\1\xb6")
    coding = data[start + 4] >> 6 if 0 <= start < len(data) - 4 else 1
    return PacketFacts(entry=key and coding == 0, closed=False, referenced=coding != 2)


def _mpeg2(data: bytes, key: bool) -> PacketFacts:
    """Reference: ITU-T H.262, 6.2.2.6 (closed_gop) and 6.2.3 (picture_coding_type)."""
    start, group = data.find(b"\0\0\1\0"), data.find(b"\0\0\1\xb8")
    coding = data[start + 5] >> 3 & 7 if 0 <= start < len(data) - 5 else 2
    closed = 0 <= group < len(data) - 7 and bool(data[group + 7] >> 6 & 1)
    entry = key and coding == 1
    return PacketFacts(entry=entry, closed=entry and closed, referenced=coding != 3)


def _vp8(data: bytes, key: bool) -> PacketFacts:
    """Reference: RFC 6386, 9.1 (show_frame)."""
    return PacketFacts(entry=key, closed=key, shown=bool(data[0] >> 4 & 1))
