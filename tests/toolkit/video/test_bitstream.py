import av
import numpy as np
import pytest
from av.video.frame import PictureType

from vis4mer.video.bitstream import PacketFacts, inspector
from vis4mer.video.movie import scan

AVCC = bytes([1, 100, 0, 31, 0xFF])  # four length bytes before each unit


def units(*payloads):
    return b"".join(b"\0\0\0\1" + payload for payload in payloads)


def test_both_ways_of_dividing_h264_into_units_agree():
    payloads = [b"\x09\xf0", b"\x06\x05\x01\xaa\x80", b"\x01\x9a\x22"]  # delimiter, SEI, unreferenced slice
    annex_b = inspector("h264", None)(units(*payloads), False)
    prefixed = inspector("h264", AVCC)(b"".join(len(p).to_bytes(4, "big") + p for p in payloads), False)
    assert annex_b == prefixed == PacketFacts(entry=False, closed=False, referenced=False)


@pytest.mark.parametrize(
    ("payload", "entry"),
    [
        (b"\x06\x06\x01\x80\x80", True),  # recovery point after 0 frames
        (b"\x06\x06\x01\x40\x80", False),  # after 1 frame
        (b"\x06\x05\x03abc\x06\x01\x80\x80", True),  # behind another message
        (b"\x06\x05\xff\x01" + b"x" * 256 + b"\x06\x01\x80\x80", True),  # behind a long one
        (b"\x06\x05\x03abc\x80", False),
        (b"\x06\x06", False),
        (b"\x06", False),
    ],
)
def test_an_h264_key_frame_is_an_entry_if_it_recovers_at_once(payload, entry):
    facts = inspector("h264", None)(units(payload, b"\x61\x9a"), True)
    assert (facts.entry, facts.closed, facts.referenced) == (entry, False, True)


@pytest.mark.parametrize("sei", [b"\x06" + b"\xff" * 9, b"\x06\x05" + b"\xff" * 9])
def test_an_sei_message_whose_type_or_size_never_ends(sei):
    assert not inspector("h264", None)(units(b"\x61\x9a", sei), True).entry


def test_an_h264_packet_with_parameters_is_kept():
    assert inspector("h264", None)(units(b"\x68\xee", b"\x01\x9a"), False).referenced


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9", "av1"])
@pytest.mark.parametrize("extradata", [None, AVCC, bytes([1]) * 30])
def test_rubbish_is_not_trusted(codec, extradata):
    inspect = inspector(codec, extradata)
    rng = np.random.default_rng(0)
    for length in (1, 2, 3, 4, 5, 8, 50, 500):
        for _ in range(50):
            assert isinstance(inspect(rng.bytes(length), bool(rng.integers(2))), PacketFacts)


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "mp4", {"x264-params": "keyint=12:open-gop=1:b-adapt=0"}),
        ("libx264", "ts", {"x264-params": "keyint=12:b-pyramid=none"}),
        ("libx265", "mp4", {"x265-params": "keyint=12:log-level=none"}),
        ("libx265", "ts", {"x265-params": "keyint=12:open-gop=0:log-level=none"}),
        ("mpeg4", "avi", {}),
        ("mpeg2video", "ts", {}),
    ],
)
def test_facts_agree_with_the_picture_types_that_the_decoder_reports(codec, container, options, tmp_path, video_tools):
    path = tmp_path / f"movie.{container}"
    video_tools.encode(path, codec=codec, count=72, gop=12, b_frames=2, options=options)
    index = scan(path).index
    with av.open(str(path)) as source:
        types = [frame.pict_type for frame in source.decode(video=0)]
    kinds = np.array(types)[index.numbers]
    assert set(kinds[index.disposable]) == {PictureType.B}
    assert set(kinds[index.entry]) == {PictureType.I}
    assert index.entry.sum() >= 72 // 12
    assert index.disposable.sum() >= 72 // 4
    open_groups = options.get("x264-params", "").find("open-gop=1") >= 0 or container == "mp4"
    if codec in ("libx264", "libx265"):
        assert index.closed[0]
        assert index.closed[index.entry].all() != open_groups


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9", "av1"])
def test_an_empty_packet_has_facts(codec):
    assert not inspector(codec, None)(b"", False).entry


def test_intra_refresh_has_one_entry(tmp_path, video_tools):
    path = tmp_path / "refresh.mp4"
    options = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
    video_tools.encode(path, count=72, options=options)
    assert np.flatnonzero(scan(path).index.entry).tolist() == [0]


class Bits:
    """Writes numbers of a few bits, as headers store them."""

    def __init__(self, prefix):
        self.text = "".join(f"{byte:08b}" for byte in prefix)

    def add(self, *texts):
        self.text += "".join(texts)
        return self

    def golomb(self, *numbers):
        for number in numbers:
            binary = f"{number + 1:b}"
            self.add("0" * (len(binary) - 1) + binary)
        return self

    def bytes(self):
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def sequence_set(frames_only, order_count=(0, 0), width=8):
    """SPS of the Main profile: id 0, frame_num of 5 bits."""
    bits = (
        Bits([0x67, 77, 0, 30]).golomb(0, 1, *order_count, 2).add("0").golomb(width - 1, 7).add(str(int(frames_only)))
    )
    return bits.add("" if frames_only else "0", "100").bytes()


def picture(first=0, field=None, reference=True):
    bits = Bits([0x41 if reference else 0x01]).golomb(first, 5, 0).add("10110", "" if field is None else str(field))
    return bits.add("01010101").bytes()


@pytest.mark.parametrize("order_count", [(0, 2), (2,)])
def test_fields_of_h264_are_recognised(order_count):
    interlaced, progressive = (sequence_set(frames_only, order_count) for frames_only in (False, True))
    pps = b"\x68\xee"
    for sets, pictures, oddity in (
        (interlaced, [picture(field=0)], ""),
        (interlaced, [picture(field=0), picture(first=8, field=0)], ""),  # two slices
        (interlaced, [picture(field=1)], "fields"),
        (interlaced, [picture(field=1), picture(field=1)], "fields"),
        (progressive, [picture()], ""),
        (progressive, [picture(), picture(first=8)], ""),
        (progressive, [picture(), picture()], "several pictures"),
        (progressive, [], "several pictures"),
    ):
        for inspect, packet in (
            (inspector("h264", units(sets, pps)), units(*pictures)),
            (inspector("h264", avcc(sets, pps)), b"".join(len(p).to_bytes(4, "big") + p for p in pictures)),
        ):
            found = inspect(packet, False).oddity
            assert found == oddity if not oddity else oddity in found


def avcc(sequence, picture_set):
    sets = [
        b"\xe1",
        len(sequence).to_bytes(2, "big"),
        sequence,
        b"\1",
        len(picture_set).to_bytes(2, "big"),
        picture_set,
    ]
    return bytes([1, 77, 0, 30, 0xFF]) + b"".join(sets)


def test_new_parameter_sets_are_fine_at_entries_only():
    idr, others = b"\x65\x9a", b"\x41\x9a"
    for later, key, slices, oddity in (
        (b"\x68\xee", False, others, ""),  # known
        (b"\x68\xef", True, idr, ""),
        (b"\x68\xef", False, others, "between two entry points"),
        (b"\x67\x4e", True, idr, "sequence header changes"),
        (b"\x67\x4d\0\0", True, idr, ""),  # known, and zeros between units
    ):
        inspect = inspector("h264", units(b"\x67\x4d", b"\x68\xee"))
        assert not inspect(units(b"\x67\x4d", b"\x68\xee", idr), True).oddity
        found = inspect(units(later, slices), key).oddity
        assert found == oddity if not oddity else oddity in found


@pytest.mark.parametrize(
    ("payload", "oddity"),
    [
        ([b"\x2a\x01\x80"], ""),  # CRA
        ([b"\x2a\x01\x80", b"\x2a\x01\x40"], ""),  # two slices
        ([b"\x20\x01\x80"], "joined streams"),  # BLA_W_LP
        ([b"\x24\x01\x80"], ""),  # BLA_N_LP, without leading pictures
        ([b"\x02\x01\x80", b"\x48\x01"], "joined streams"),  # end of sequence
        ([b"\x02\x01\x80", b"\x02\x09\x80"], "layers"),
        ([b"\x02\x01\x80", b"\x02\x01\x80"], "several pictures"),
    ],
)
def test_oddities_of_hevc(payload, oddity):
    found = inspector("hevc", None)(units(*payload), True).oddity
    assert found == oddity if not oddity else oddity in found


@pytest.mark.parametrize(
    ("frames", "oddity", "shown"),
    [
        ([b"\x86"], "", True),  # an inter frame, shown
        ([b"\x84", b"\x86"], "", True),  # hidden, then shown
        ([b"\x86", b"\x84"], "several pictures", True),
        ([b"\x86", b"\x86"], "several pictures", True),
        ([b"\x84"], "several pictures", False),
        ([b"\x88"], "earlier picture", True),  # show_existing_frame
    ],
)
def test_oddities_of_vp9(frames, oddity, shown):
    frames = [frame + b"\0" + b"\xff" * 8 for frame in frames]
    marker = bytes([0b110_00_000 | len(frames) - 1])
    packet = b"".join(frames) + (marker + bytes(map(len, frames)) + marker if len(frames) > 1 else b"")
    facts = inspector("vp9", None)(packet, False)
    assert facts.shown == shown
    assert facts.oddity == oddity if not oddity else oddity in facts.oddity


@pytest.mark.parametrize(
    ("frames", "oddity"),
    [
        ([0b0_01_1_0000], ""),
        ([0b0_01_0_0000, 0b0_01_1_0000], ""),
        ([0b1_000_0000], "earlier"),
        ([0b0_01_0_0000], "none"),
    ],
)
def test_oddities_of_av1(frames, oddity):
    sequence = bytes([0x0A, 2, 0, 0])
    inspect = inspector("av1", b"")
    packet = sequence + b"".join(bytes([0x32, 2, frame, 0]) for frame in frames)
    found = inspect(packet, True).oddity
    assert found == oddity if not oddity else oddity in found
    assert "header changes" in inspect(bytes([0x0A, 2, 0, 1]) + packet[4:], True).oddity


def test_oddities_of_vp8():
    """A frame's first byte: key frame (0), version, show_frame, size of the first partition."""
    inspect = inspector("vp8", None)
    key_frame = bytes([0b000_1_000_0, 0, 0, 0x9D, 1, 0x2A, 128, 0, 64, 0])
    assert inspect(key_frame, True) == PacketFacts(entry=True, closed=True)
    assert inspect(bytes([0b000_1_000_1]) + key_frame[1:], False).oddity == ""
    hidden = inspect(bytes([0b000_0_000_1]) + key_frame[1:], False)
    assert not hidden.shown
    assert "none" in hidden.oddity
    assert "header changes" in inspect(key_frame[:6] + bytes([64, 0, 64, 0]), True).oddity
