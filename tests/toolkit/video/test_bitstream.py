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


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9"])
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


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9"])
def test_an_empty_packet_has_facts(codec):
    assert not inspector(codec, None)(b"", False).entry


def test_intra_refresh_has_one_entry(tmp_path, video_tools):
    path = tmp_path / "refresh.mp4"
    options = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
    video_tools.encode(path, count=72, options=options)
    assert np.flatnonzero(scan(path).index.entry).tolist() == [0]
