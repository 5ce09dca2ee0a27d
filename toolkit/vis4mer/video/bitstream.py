"""Facts about a compressed packet, read from its first bytes without decoding it.

The flags of containers do not suffice to plan decoding. They mark an H.264 packet as a key frame if decoding may start
there, even where the picture is right only many frames later; and most do not record whether other frames refer to a
frame. The bitstream does, in headers of a few bytes.

The parsers see untrusted bytes. On invalid data they return arbitrary facts, but never raise an exception or loop:
every offset is checked, and every loop advances.
"""

from vis4mer.video.bitreader import BitReader
from vis4mer.video.facts import CHANGED_HEADER, SEVERAL_PICTURES, Inspect, PacketFacts
from vis4mer.video.frame_headers import AV1Inspector, VP9Inspector
from vis4mer.video.nal import H264Inspector, HEVCInspector

__all__ = ["Inspect", "PacketFacts", "inspector"]

_GLOBAL_MOTION = "global motion compensation"


def inspector(codec: str, extradata: bytes | None) -> Inspect:
    """Returns the function that maps a packet's bytes and its container's key-frame flag to its facts.

    Args:
        codec: FFmpeg's name of the codec. For an unsupported one, every key frame is a closed entry and every frame
            counts as referenced, which is safe: nothing that might be needed is skipped.
        extradata: Stream's extradata, which hold the first headers.
    """
    extradata = extradata or b""
    match codec:
        case "h264":
            return H264Inspector(extradata)
        case "hevc":
            return HEVCInspector(extradata)
        case "mpeg4":
            return _MPEG4Inspector(extradata)
        case "mpeg1video" | "mpeg2video":
            return _mpeg2
        case "vp8":
            return _VP8Inspector()
        case "vp9":
            return VP9Inspector()
        case "av1":
            return AV1Inspector(extradata)
    return lambda data, key: PacketFacts(entry=key, closed=key)


class _MPEG4Inspector:
    """Reads the facts about MPEG-4 Part 2 packets.

    A picture is a video object plane (VOP) and follows its own start code; the header of a sequence is a video object
    layer (VOL). In AVI files, a packet may hold two VOPs ("packed bitstream"), and a VOP that is not coded follows
    later so that the numbers agree. It reveals such a stream without a search through all data.

    Reference: ISO/IEC 14496-2, 6.2.3 (VOL) and 6.2.5 (VOP).
    """

    def __init__(self, extradata: bytes) -> None:
        self._layer: bytes | None = None
        self._time_bits = 1
        self._read_layer(extradata)

    def __call__(self, data: bytes, key: bool) -> PacketFacts:
        """Returns the facts about one packet."""
        start = data.find(b"\0\0\1\xb6")
        oddity = self._read_layer(data[:start] if start >= 0 else data)  # headers precede the picture
        plane = BitReader(data[start + 4 : start + 32] if start >= 0 else b"\x40")
        coding = plane.bits(2)  # 0 codes an I-VOP, 1 a P-VOP, 2 a B-VOP, 3 an S-VOP
        if coding == 3:
            oddity = oddity or _GLOBAL_MOTION
        if start < 0 or not self._is_coded(plane):
            oddity = oddity or SEVERAL_PICTURES
        return PacketFacts(entry=key and coding == 0, closed=False, referenced=coding != 2, oddity=oddity)

    def _is_coded(self, plane: BitReader) -> bool:
        """Returns vop_coded, given a VOP's header after vop_coding_type."""
        while plane.flag():  # modulo_time_base: one bit for each second
            pass
        plane.flag()  # marker
        plane.bits(self._time_bits)
        plane.flag()
        return plane.flag()

    def _read_layer(self, data: bytes) -> str:
        """Reads the VOL of a packet, if any; returns the oddity if it is another one than before."""
        layer = video_object_layer(data)
        if layer is None:
            return ""
        if self._layer is None:
            self._layer = layer
            self._time_bits = _time_bits(BitReader(layer[4:]))
        return "" if layer == self._layer else CHANGED_HEADER


def video_object_layer(data: bytes) -> bytes | None:
    """Returns the VOL of an MPEG-4 Part 2 packet or extradata with its start code; None if there is none."""
    start = data.find(b"\0\0\1")
    while start >= 0:
        end = data.find(b"\0\0\1", start + 3)
        if data[start + 3 : start + 4] and data[start + 3] >> 4 == 2:  # video_object_layer_start_code
            return (data[start:end] if end >= 0 else data[start:]).rstrip(b"\0")
        start = end
    return None


def _time_bits(layer: BitReader) -> int:
    """Returns the size of vop_time_increment, given a VOL after its start code."""
    layer.bits(9)  # random_accessible_vol, video_object_type_indication
    if layer.flag():
        layer.bits(7)  # verid, priority
    if layer.bits(4) == 15:
        layer.bits(16)  # aspect ratio
    if layer.flag():
        layer.bits(3)  # chroma_format, low_delay
        if layer.flag():
            layer.bits(79)  # vbv parameters
    layer.bits(3)  # shape: rectangular; marker
    resolution = layer.bits(16)  # ticks per second
    return max(1, (resolution - 1).bit_length()) if resolution else 1


def _mpeg2(data: bytes, key: bool) -> PacketFacts:
    """Returns the facts about an MPEG-1 or MPEG-2 packet: 1 codes an I-picture, 2 a P-picture, 3 a B-picture.

    Reference: ITU-T H.262, 6.2.2.6 (closed_gop) and 6.2.3 (picture_coding_type).
    """
    start, group = data.find(b"\0\0\1\0"), data.find(b"\0\0\1\xb8")
    coding = data[start + 5] >> 3 & 7 if 0 <= start < len(data) - 5 else 2
    closed = 0 <= group < len(data) - 7 and bool(data[group + 7] >> 6 & 1)
    entry = key and coding == 1
    return PacketFacts(entry=entry, closed=entry and closed, referenced=coding != 3)


class _VP8Inspector:
    """Reads the facts about VP8 packets, which may be alternative reference frames that are never shown.

    Reference: RFC 6386, 9.1 (show_frame, width, height).
    """

    def __init__(self) -> None:
        self._size = b""

    def __call__(self, data: bytes, key: bool) -> PacketFacts:
        """Returns the facts about one packet."""
        shown = bool(data) and bool(data[0] >> 4 & 1)
        oddity = "" if shown else SEVERAL_PICTURES
        if data and not data[0] & 1:  # a key frame, whose header holds the size
            size = data[6:10]
            self._size = self._size or size
            oddity = oddity if size == self._size else CHANGED_HEADER
        return PacketFacts(entry=key, closed=key, shown=shown, oddity=oddity)
