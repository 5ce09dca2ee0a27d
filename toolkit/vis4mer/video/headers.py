"""Headers that a video decoder needs before the first picture, put into the first packet of a clip.

A container holds them once, beside the packets, and streams repeat them before some pictures only. FFmpeg's filters
insert H.264 parameter sets before IDR pictures, but not at the entries of open GOPs; and some headers reach NVIDIA's
parser in no other way.
"""

from vis4mer.video.bitstream import video_object_layer
from vis4mer.video.frame_headers import SEQUENCE_HEADER, TEMPORAL_DELIMITER, obus, sequence_obus
from vis4mer.video.nal import (
    delimiter_type,
    join,
    length_bytes,
    nal_units,
    parameter_set_types,
    parameter_sets,
    unit_type,
)


class Headers:
    """The headers of one stream.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: Stream's extradata.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec, self._extradata = codec, extradata or b""
        # Keys in the order in which they were last seen: a later set replaces an earlier one of the same number.
        self._sets: dict[bytes, None] = {}
        if codec in ("h264", "hevc"):
            self._length_bytes = length_bytes(codec, self._extradata)
            self._sets = dict.fromkeys(parameter_sets(codec, self._extradata))

    def update(self, data: bytes) -> None:
        """Notes the headers in an entry's packet, which also apply to the entries after it.

        `vis4mer.video.nal` reports a stream whose other packets hold new ones.
        """
        if self._codec == "av1":
            for kind, payload in obus(data):
                if kind == SEQUENCE_HEADER and len(payload) < 128:  # then its size is coded in one byte
                    self._extradata = bytes([SEQUENCE_HEADER << 3 | 2, len(payload)]) + payload
        if self._codec not in ("h264", "hevc"):
            return
        for unit in nal_units(data, self._length_bytes):
            if unit_type(self._codec, unit) in parameter_set_types(self._codec):
                self._sets.pop(unit, None)
                self._sets[unit] = None

    def complete(self, data: bytes) -> bytes:
        """Returns an entry's packet, preceded by the headers it needs."""
        match self._codec:
            case "h264" | "hevc":
                return self._with_parameter_sets(data)
            case "av1":
                return self._with_sequence_header(data)
            case "mpeg4" if video_object_layer(data) is None and video_object_layer(self._extradata) is not None:
                return self._extradata + data
        return data

    def _with_parameter_sets(self, data: bytes) -> bytes:
        units = list(nal_units(data, self._length_bytes))
        types = parameter_set_types(self._codec)
        # A set may only refer to one before it. Those of the packet itself are among `_sets`, the last of their number.
        sets = sorted(self._sets, key=lambda unit: types.index(unit_type(self._codec, unit)))
        others = [unit for unit in units if unit_type(self._codec, unit) not in types]
        first = [unit for unit in others[:1] if unit_type(self._codec, unit) == delimiter_type(self._codec)]
        return join(first + sets + others[len(first) :], self._length_bytes)

    def _with_sequence_header(self, data: bytes) -> bytes:
        if any(kind == SEQUENCE_HEADER for kind, _ in obus(data)):
            return data
        # A temporal delimiter comes first, and is the one unit without content.
        delimiter = data[:2] if data[:1] and data[0] >> 3 & 15 == TEMPORAL_DELIMITER else b""
        return delimiter + sequence_obus(self._extradata) + data[len(delimiter) :]
