"""NAL units, of which H.264 and HEVC packets consist: facts about pictures, and the parameter sets.

A slice refers to parameter sets: small units that a decoder must have received before. They come with the container's
header (extradata), in packets, or both.
"""

from collections.abc import Iterator

from vis4mer.video.bitreader import BitReader
from vis4mer.video.facts import CHANGED_HEADER, SEVERAL_PICTURES, PacketFacts

_FIELDS = "pictures that are coded as two fields"
_LATE_PARAMETERS = "parameter sets that begin between two entry points"
_SKIPPED_PICTURES = "joined streams, whose leading pictures are not shown"
_LAYERS = "several layers or views"

_MAX_PARAMETER_SETS = 64  # a stream has a handful; the limit bounds memory where damage makes each one unique

# Profiles whose sequence parameter sets describe the chroma format.
# Reference: ITU-T H.264, 7.3.2.1.1.
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


def length_bytes(codec: str, extradata: bytes) -> int:
    """Returns the size of the length field before each unit of a packet, or 0 for start codes (Annex B).

    The configuration records avcC and hvcC begin with version 1 and hold that size, minus one, in two bits. Anything
    else is Annex B.
    """
    position = {"h264": 4, "hevc": 21}[codec]
    return (extradata[position] & 3) + 1 if len(extradata) > position and extradata[0] == 1 else 0


def nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
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
        unit = data[begin:end] if end >= 0 else data[begin:]
        yield unit.rstrip(b"\0")  # zeros may stand between units, which never end with one
        begin = end + 3


def join(units: list[bytes], length_bytes: int) -> bytes:
    """Joins NAL units to a packet; the reverse of `nal_units`."""
    if length_bytes:
        return b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units)
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def unit_type(codec: str, unit: bytes) -> int:
    """Returns nal_unit_type, or -1 for an incomplete unit."""
    if codec == "h264":
        return unit[0] & 31 if unit else -1
    return unit[0] >> 1 & 63 if len(unit) >= 2 else -1


def parameter_set_types(codec: str) -> tuple[int, ...]:
    """Returns the types of parameter sets in the order in which they refer to each other, the referred one first."""
    return (7, 8) if codec == "h264" else (32, 33, 34)  # SPS and PPS; or VPS, SPS and PPS


def delimiter_type(codec: str) -> int:
    """Returns the type of the access unit delimiter, which is the first unit of a packet if there is one."""
    return 9 if codec == "h264" else 35


def parameter_sets(codec: str, extradata: bytes) -> list[bytes]:
    """Returns the parameter sets of an avcC or hvcC record, or of a stream's header in Annex B.

    Reference: ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1.
    """
    if not length_bytes(codec, extradata):
        units = list(nal_units(extradata, 0))
    elif codec == "h264":
        sequence_sets, position = _counted_units(extradata, 6, extradata[5] & 31 if len(extradata) > 5 else 0)
        n_picture_sets = extradata[position] if position < len(extradata) else 0
        units = sequence_sets + _counted_units(extradata, position + 1, n_picture_sets)[0]
    else:
        units, position = [], 23
        for _ in range(extradata[22] if len(extradata) > 22 else 0):
            count = int.from_bytes(extradata[position + 1 : position + 3], "big")
            found, position = _counted_units(extradata, position + 3, count)
            units += found
    wanted = parameter_set_types(codec)
    return [unit for unit in units if unit_type(codec, unit) in wanted]


def _counted_units(record: bytes, position: int, count: int) -> tuple[list[bytes], int]:
    """Returns `count` units with a length of two bytes each that start at `position`, and the position after them."""
    units = []
    for _ in range(count):
        begin = position + 2
        if begin > len(record):
            break
        position = begin + int.from_bytes(record[position:begin], "big")
        units.append(record[begin:position])
    return units, position


class _ParameterSets:
    """The parameter sets that a stream has shown so far.

    Args:
        codec: ``h264`` or ``hevc``.
        extradata: Stream's extradata.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec = codec
        self._sequence_type = parameter_set_types(codec)[-2]
        self._known: set[bytes] = set()
        self.sequence: bytes | None = None
        for unit in parameter_sets(codec, extradata):
            self.add(unit)

    def add(self, unit: bytes) -> str:
        """Adds a parameter set; returns the oddity if it is another one than before."""
        if unit in self._known:
            return ""
        if len(self._known) < _MAX_PARAMETER_SETS:
            self._known.add(unit)
        if unit_type(self._codec, unit) == self._sequence_type:
            if self.sequence is not None:
                return CHANGED_HEADER
            self.sequence = unit
        return _LATE_PARAMETERS


class H264Inspector:
    """Reads the facts about H.264 access units.

    An IDR picture is a closed entry: it empties the decoder. Another key frame is an entry, though an open one, only if
    a recovery point promises right pictures at once. With intra refresh the promise holds only many frames later.

    Reference: ITU-T H.264, 7.4.1 (nal_unit_type, nal_ref_idc) and D.2.8 (recovery point).
    """

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes = length_bytes("h264", extradata)
        self._sets = _ParameterSets("h264", extradata)
        self._frame_num_bits = self._read_sequence()

    def __call__(self, data: bytes, key: bool) -> PacketFacts:
        """Returns the facts about one packet."""
        instant, recovers, slices, referenced, pictures, oddity = False, False, False, False, 0, ""
        for unit in nal_units(data, self._length_bytes):
            kind = unit_type("h264", unit)
            if 1 <= kind <= 5:
                slices = True
                instant |= kind == 5
                referenced |= unit[0] >> 5 & 3 != 0
                if kind in (1, 2, 5) and unit[1:2] >= b"\x80":  # first_mb_in_slice is 0
                    pictures += 1
                    oddity = oddity or (_FIELDS if self._is_field(unit) else "")
            elif kind == 6:
                recovers |= key and _recovers_at_once(unit)
            elif kind not in (9, 12, -1):  # neither access unit delimiter nor filler: parameters, or end of sequence
                referenced = True
                if kind in (7, 8):
                    oddity = _worse(oddity, self._sets.add(unit))
                    self._frame_num_bits = self._read_sequence() if kind == 7 else self._frame_num_bits
        # A packet without slices is a fragment; keeping it is the safe choice.
        entry, closed = key and (instant or recovers), key and instant
        oddity = _settled(oddity, entry, pictures)
        return PacketFacts(entry, closed, referenced or not slices, oddity=oddity)

    def _is_field(self, unit: bytes) -> bool:
        """Returns field_pic_flag of a slice."""
        if self._frame_num_bits is None:
            return False
        header = BitReader(_unescaped(unit[1:32]))
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            header.exp_golomb()
        header.bits(self._frame_num_bits)
        return header.flag()

    def _read_sequence(self) -> int | None:
        """Returns the bits before field_pic_flag in the slices; None if there are no fields, so no such flag.

        Reference: ITU-T H.264, 7.3.2.1.1.
        """
        if self._sets.sequence is None:
            return None
        sequence = BitReader(_unescaped(self._sets.sequence[1:]))
        profile = sequence.bits(8)
        sequence.bits(16)  # constraints and level
        sequence.exp_golomb()  # seq_parameter_set_id
        colour_planes = _read_chroma_format(sequence) if profile in _HIGH_PROFILES else False
        frame_num_bits = sequence.exp_golomb() + 4
        _skip_order_count(sequence)
        sequence.exp_golomb()  # max_num_ref_frames
        sequence.flag()  # gaps_in_frame_num_value_allowed_flag
        sequence.exp_golomb()  # width
        sequence.exp_golomb()  # height
        frames_only = sequence.flag()
        return None if frames_only or frame_num_bits > 16 else frame_num_bits + 2 * colour_planes


def _read_chroma_format(sequence: BitReader) -> bool:
    """Reads a sequence parameter set from chroma_format_idc through the scaling lists.

    Returns:
        Whether slices name a colour plane.
    """
    chroma_format = sequence.exp_golomb()
    colour_planes = chroma_format == 3 and sequence.flag()
    sequence.exp_golomb()  # bit depths of luma and chroma
    sequence.exp_golomb()
    sequence.flag()  # qpprime_y_zero_transform_bypass_flag
    if sequence.flag():
        for i in range(12 if chroma_format == 3 else 8):
            if sequence.flag():
                _skip_scaling_list(sequence, 16 if i < 6 else 64)
    return colour_planes


def _skip_scaling_list(sequence: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + sequence.signed_exp_golomb()) % 256
        last = following or last


def _skip_order_count(sequence: BitReader) -> None:
    """Skips what describes the picture order count."""
    match sequence.exp_golomb():
        case 0:
            sequence.exp_golomb()
        case 1:
            sequence.flag()
            sequence.signed_exp_golomb()
            sequence.signed_exp_golomb()
            for _ in range(min(sequence.exp_golomb(), 255)):
                sequence.signed_exp_golomb()


def _recovers_at_once(sei: bytes) -> bool:
    """Returns whether an SEI unit holds a recovery point with recovery_frame_cnt = 0.

    A unit holds messages, each with a type and a size before it. Both are coded as a sum: a byte of 255 means that more
    follow.
    """
    payload = _unescaped(sei[1:])
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


def _unescaped(payload: bytes) -> bytes:
    """Removes the emulation prevention bytes."""
    return payload.replace(b"\0\0\3", b"\0\0")


def _sei_number(payload: bytes, position: int) -> tuple[int, int]:
    """Returns an SEI message's type or size that starts at `position`, and the position after it."""
    number = 0
    while position < len(payload):
        byte = payload[position]
        number, position = number + byte, position + 1
        if byte != 255:
            break
    return number, position


class HEVCInspector:
    """Reads the facts about HEVC access units; the picture type is part of every slice's NAL unit type.

    Reference: ITU-T H.265, table 7-1 (nal_unit_type).
    """

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes = length_bytes("hevc", extradata)
        self._sets = _ParameterSets("hevc", extradata)

    def __call__(self, data: bytes, key: bool) -> PacketFacts:
        """Returns the facts about one packet."""
        entry, closed, slices, referenced, layer, pictures, oddity = False, False, False, False, 0, 0, ""
        for unit in nal_units(data, self._length_bytes):
            kind = unit_type("hevc", unit)
            if kind < 0:
                continue
            if unit[0] & 1 or unit[1] >> 3:  # nuh_layer_id: another view, or an enhancement
                oddity = oddity or _LAYERS
            elif kind < 32:
                slices = True
                layer = (unit[1] & 7) - 1
                entry |= 16 <= kind <= 21  # BLA, IDR or CRA
                closed |= kind in (19, 20)  # IDR; a CRA picture has leading pictures that reach back
                referenced |= kind > 14 or kind % 2 == 1  # up to 14, even types are sub-layer non-reference pictures
                pictures += unit[2:3] >= b"\x80"  # first_slice_segment_in_pic_flag
                if kind == 16:  # BLA_W_LP: leading pictures that a decoder has to skip follow
                    oddity = oddity or _SKIPPED_PICTURES
            elif kind not in (35, 38, 39, 40):  # neither delimiter, filler nor SEI
                referenced = True
                if kind in (32, 33, 34):
                    oddity = _worse(oddity, self._sets.add(unit))
                elif kind in (36, 37):  # the end of a sequence turns the CRA picture after it into a BLA picture
                    oddity = oddity or _SKIPPED_PICTURES
        oddity = _settled(oddity, key and entry, pictures)
        return PacketFacts(key and entry, key and closed, referenced or not slices, layer, oddity=oddity)


def _worse(oddity: str, found: str) -> str:
    """Returns the oddity to report of two; late parameters may yet turn out to belong to an entry."""
    return found if oddity in ("", _LATE_PARAMETERS) else oddity


def _settled(oddity: str, entry: bool, pictures: int) -> str:
    """Returns a packet's oddity, given all of it."""
    # The clips take the parameter sets from the entries, see `vis4mer.video.headers`.
    if oddity == _LATE_PARAMETERS and entry:
        oddity = ""
    return oddity or ("" if pictures == 1 else SEVERAL_PICTURES)
