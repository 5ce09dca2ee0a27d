"""Clips, decoded as NVIDIA's video decoder gets them: by a decoder that has seen nothing else of the file.

DALI sends each packet of a clip through FFmpeg's Annex B filter to NVIDIA's parser, and pairs the pictures that come
out with the packets' times in decoding order. libavcodec stands in for the parser and the decoder.
"""

import io
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from vis4mer.devices.device import Device
from vis4mer.video import clips, dali, facts, frame_headers
from vis4mer.video.bitstream import inspector
from vis4mer.video.headers import Headers
from vis4mer.video.movie import scan
from vis4mer.video.planner import plan

FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}  # those of DALI's frames_decoder_gpu.cc for Matroska
PARAMETER_SETS = {"h264": {7, 8}, "hevc": {32, 33, 34}}
FRAMES, GOP = 60, 12


def x264(params="", **options):
    fixed = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:log-level=none"
    return "libx264", {"preset": "veryfast", "x264-params": f"{fixed}:{params}".rstrip(":"), **options}


def x265(params="", threads="none"):
    fixed = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:pools={threads}:frame-threads=1:log-level=none"
    return "libx265", {"preset": "ultrafast", "x265-params": f"{fixed}:{params}".rstrip(":")}


def vp9(**options):
    return "libvpx-vp9", {"deadline": "good", "cpu-used": "5", "lag-in-frames": "25", **options}


OPEN264 = "open-gop=1:bframes=3:b-adapt=0"
OPEN265 = "open-gop=1:bframes=3:b-adapt=0"
ONE_BY_ONE = {"svtav1-params": "pred-struct=1:lp=1"}  # no frame is shown later than it is decoded

# (container, (codec, options), further arguments of `encode`)
REGULAR = {
    "h264 mp4": ("mp4", x264("bframes=3:b-adapt=0")),
    "h264 mkv": ("mkv", x264("bframes=3:b-adapt=0")),
    "h264 ts": ("ts", x264("bframes=3:b-adapt=0")),
    "h264 mov": ("mov", x264("bframes=3:b-adapt=0")),
    "h264 flv": ("flv", x264("bframes=3:b-adapt=0")),
    "h264 avi without b": ("avi", x264("bframes=0")),
    "h264 open mp4": ("mp4", x264(f"{OPEN264}:b-pyramid=none")),
    "h264 open mkv": ("mkv", x264(f"{OPEN264}:b-pyramid=none")),
    "h264 open ts": ("ts", x264(f"{OPEN264}:b-pyramid=none")),
    "h264 open pyramid mp4": ("mp4", x264(f"{OPEN264}:b-pyramid=normal:ref=4")),
    "h264 open pyramid ts": ("ts", x264(f"{OPEN264}:b-pyramid=strict:ref=4")),
    "h264 open pyramid 7 b": ("mkv", x264("open-gop=1:bframes=7:b-adapt=0:b-pyramid=normal:ref=5")),
    "h264 open one b": ("mp4", x264("open-gop=1:bframes=1:b-adapt=0")),
    "h264 open 5 refs no b": ("mp4", x264("open-gop=1:bframes=0:ref=5")),
    "h264 repeated headers": ("mp4", x264(f"{OPEN264}:repeat-headers=1")),
    "h264 delimiters": ("ts", x264(f"{OPEN264}:aud=1")),
    "h264 delimiters mp4": ("mp4", x264(f"{OPEN264}:aud=1")),
    "h264 slices": ("mp4", x264(f"{OPEN264}:slices=4")),
    "h264 baseline": ("mp4", x264("bframes=0", profile="baseline")),
    "h264 weighted": ("mp4", x264(f"{OPEN264}:weightp=2:weightb=1")),
    "h264 intra refresh": ("mp4", x264("intra-refresh=1:bframes=0")),
    "h264 mbaff": ("ts", x264("tff=1:bframes=2:b-adapt=0")),
    "h264 odd size": ("mp4", x264("bframes=2"), {"size": (150, 86)}),
    "h264 scaling lists": ("mp4", x264("cqm=jvt:8x8dct=1")),
    "h264 poc type 2": ("mp4", x264("bframes=0:ref=1")),
    "h264 edit list": ("mp4", x264("bframes=3:b-adapt=0"), {"pts": range(-10, FRAMES - 10)}),
    "h264 vfr": ("mp4", x264(OPEN264), {"pts": [i * i // 7 + i for i in range(FRAMES)]}),
    "h264 fragments": ("mp4", x264(OPEN264), {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "hevc open mp4": ("mp4", x265(OPEN265)),
    "hevc open mkv": ("mkv", x265(OPEN265)),
    "hevc open ts": ("ts", x265(OPEN265)),
    "hevc open pyramid": ("mp4", x265("open-gop=1:bframes=7:b-adapt=0:rc-lookahead=20:ref=4")),
    "hevc open no pyramid": ("mp4", x265(f"{OPEN265}:b-pyramid=0")),
    "hevc closed": ("mp4", x265("open-gop=0:bframes=3")),
    "hevc closed ts": ("ts", x265("open-gop=0:bframes=3")),
    "hevc radl": ("mp4", x265("open-gop=0:radl=2:bframes=3:b-adapt=0")),
    "hevc repeated headers": ("mp4", x265(f"{OPEN265}:repeat-headers=1")),
    "hevc delimiters": ("ts", x265(f"{OPEN265}:aud=1")),
    "hevc slices": ("mp4", x265(f"{OPEN265}:slices=2", threads=2), {"size": (128, 256)}),
    "hevc temporal layers": ("mp4", x265(f"{OPEN265}:temporal-layers=2")),
    "hevc odd size": ("mkv", x265(OPEN265), {"size": (150, 86)}),
    "hevc vfr": ("mkv", x265(OPEN265), {"pts": [i * i // 7 + i for i in range(FRAMES)]}),
    "vp8 webm": ("webm", ("libvpx", {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"})),
    "vp9 webm": ("webm", vp9(**{"auto-alt-ref": "0"})),
    "vp9 mp4": ("mp4", vp9(**{"auto-alt-ref": "0"})),
    "vp9 tiles": ("mkv", vp9(**{"auto-alt-ref": "0", "tile-columns": "1", "frame-parallel": "1"})),
    "vp9 odd size": ("webm", vp9(**{"auto-alt-ref": "0"}), {"size": (150, 86)}),
    "av1 mkv": ("mkv", ("libsvtav1", {"preset": "12", **ONE_BY_ONE})),
    "av1 mp4": ("mp4", ("libsvtav1", {"preset": "12", **ONE_BY_ONE})),
    "mpeg4 avi": ("avi", ("mpeg4", {}), {"b_frames": 0}),
    "mpeg4 mp4": ("mp4", ("mpeg4", {}), {"b_frames": 2}),
    "mpeg4 mkv": ("mkv", ("mpeg4", {}), {"b_frames": 2}),
    "mpeg4 avi with b": ("avi", ("mpeg4", {}), {"b_frames": 2}),
    "mpeg4 four vectors": ("mp4", ("mpeg4", {"flags": "+mv4"}), {"b_frames": 2}),
    "mpeg4 one b": ("mkv", ("mpeg4", {}), {"b_frames": 1}),
}


def encoded(name, tmp_path, video_tools):
    container, (codec, options), *further = REGULAR[name]
    arguments = {"count": FRAMES, "gop": GOP, **(further[0] if further else {})}
    return video_tools.encode(tmp_path / f"movie.{container}", codec=codec, options=options, **arguments)


def planes(frame):
    return frame.reformat(format="yuv420p").to_ndarray()


def reference(path, edited=True):
    """All frames of a file in presentation order, with or without those that an edit list hides."""
    options = {} if edited or path.suffix not in (".mp4", ".mov") else {"ignore_editlist": "1"}
    with av.open(str(path), options=options) as container:
        return [planes(frame) for frame in container.decode(video=0)]


def units(codec, data):
    """Types of the NAL units of an Annex B packet."""
    starts = [i + 3 for i in range(len(data) - 3) if data[i : i + 3] == b"\0\0\1"]
    return [data[i] >> 1 & 63 if codec == "hevc" else data[i] & 31 for i in starts]


def filtered(clip):
    """Returns codec and packets of a clip as DALI's decoder sees them."""
    with av.open(io.BytesIO(clip.data.tobytes())) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context.codec.canonical_name
        packets = [packet for packet in container.demux(stream) if packet.size]
        if codec in FILTERS:
            context = BitStreamFilterContext(FILTERS[codec], stream)
            out = [context.filter(packet) for packet in packets]
            assert [len(packets) for packets in out] == [1] * len(out), "DALI takes one packet for each that it sends"
            packets = list(itertools.chain(*out))
        return codec, [(packet.pts, bytes(packet)) for packet in packets]


def decode_alone(codec, packets):
    """Decodes packets, of which the first must hold all headers; returns frames by presentation time."""
    decoder = av.CodecContext.create("libdav1d" if codec == "av1" else codec, "r")
    decoder.thread_count = 1
    frames = []
    for pts, data in packets:
        # FFmpeg's decoders read a few bytes beyond a packet's end, which must be zeros.
        packet = av.Packet(memoryview(data + bytes(64))[: len(data)])
        packet.pts, packet.time_base = pts, Fraction(1, 1000)
        frames += decoder.decode(packet)
    frames += decoder.decode(None)
    assert not any(frame.is_corrupt for frame in frames)
    return {frame.pts: planes(frame) for frame in frames}


def check_clip(clip, shown, all_pictures):
    codec, packets = filtered(clip)
    times = [pts for pts, _ in packets]
    if codec in PARAMETER_SETS:
        first = units(codec, packets[0][1])
        picture = next(i for i, kind in enumerate(first) if 1 <= kind <= (5 if codec == "h264" else 31))
        assert PARAMETER_SETS[codec] <= set(first[:picture])
    frames = decode_alone(codec, packets)
    assert sorted(frames) == sorted(times), "one frame comes out for each packet"
    assert {frame.tobytes() for frame in frames.values()} <= all_pictures, "also those that are not wanted are right"
    assert clip.numbers.tolist() == sorted(clip.numbers.tolist())
    for number, place in zip(clip.numbers, clip.places, strict=True):
        assert np.array_equal(frames[sorted(times)[place]], shown[number])


@pytest.mark.parametrize("name", REGULAR)
def test_clips_decode_on_their_own_to_the_frames_of_the_whole_movie(name, tmp_path, video_tools):
    path = encoded(name, tmp_path, video_tools)
    movie, shown = scan(path), reference(path)
    all_pictures = {picture.tobytes() for picture in reference(path, edited=False)}
    assert movie.index.oddity == ""
    assert len(shown) == len(movie.index.order)
    for step, start in ((1, 0), (5, 0), (7, 3), (24, 11)):
        wanted = np.arange(start, len(shown), step)
        cut = list(clips.cut(movie, plan(movie.index, movie.index.order[wanted]), wanted, max_frames=8))
        assert np.array_equal(np.concatenate([clip.numbers for clip in cut]), wanted)
        assert max(len(clip.numbers) for clip in cut) <= 8
        for clip in cut:
            check_clip(clip, shown, all_pictures)


@pytest.fixture(scope="module")
def reordered_av1(movies, video_tools):
    options = {"preset": "12", "svtav1-params": "lp=1"}
    return video_tools.encode(movies / "reordered.mkv", codec="libsvtav1", options=options, count=FRAMES, gop=24)


def test_packets_that_repeat_a_picture_are_reported(reordered_av1):
    movie = scan(reordered_av1)
    assert movie.index.oddity == facts.REPEATED_PICTURE
    assert facts.REPEATED_PICTURE in dali.obstacle(movie, Device("cuda"))


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "ts", {"x264-params": "bframes=2"}),
        ("libx265", "ts", {"x265-params": "log-level=none:pools=none"}),
    ],
)
def test_joined_streams_of_different_sizes_are_reported(codec, container, options, tmp_path, video_tools):
    parts = [
        video_tools.encode(tmp_path / f"{width}.{container}", codec=codec, options=options, size=(width, 64), count=24)
        for width in (128, 192)
    ]
    path = tmp_path / f"joined.{container}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert scan(path).index.oddity == facts.CHANGED_HEADER
    assert scan(parts[0]).index.oddity == ""


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_change_of_size_without_a_sequence_header_is_reported(codec, tmp_path, video_tools):
    packets = []
    for width in (128, 192):
        options = {"deadline": "realtime", "cpu-used": "8"}
        path = video_tools.encode(tmp_path / f"{width}.webm", codec=codec, options=options, size=(width, 64), count=6)
        with av.open(str(path)) as container:
            packets += [(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    inspect = inspector({"libvpx": "vp8", "libvpx-vp9": "vp9"}[codec], None)
    found = [inspect(data, key).oddity for data, key in packets]
    assert found[:6] == [""] * 6
    assert found[6] == facts.CHANGED_HEADER


def test_packed_bitstreams_are_reported(tmp_path, video_tools):
    """Old AVI files hold two pictures in a packet, and later a packet with a picture that is not coded."""
    path = video_tools.encode(tmp_path / "movie.avi", codec="mpeg4", b_frames=1, count=12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [(bytes(packet), packet.is_keyframe) for packet in container.demux(stream) if packet.size]
        bits = stream.codec_context.extradata
    inspect = inspector("mpeg4", bits)
    assert {inspect(data, key).oddity for data, key in packets} == {""}
    first, key = packets[0]
    # I-VOP, no whole second, marker, 5 bits of time (the movie counts 24 ticks a second), marker, vop_coded = 0.
    layer = bits.index(b"\0\0\1\x20")
    other_layer = bits[: layer + 4] + bytes([bits[layer + 4] ^ 1]) + bits[layer + 5 :]
    assert inspect(other_layer + first, key).oddity == facts.CHANGED_HEADER
    not_coded = b"\0\0\1\xb6" + bytes([0b01_0_1_0000, 0b0_1_0_11111])
    assert inspect(not_coded, False).oddity == facts.SEVERAL_PICTURES
    coded = b"\0\0\1\xb6" + bytes([0b01_0_1_0000, 0b0_1_1_11111])
    assert inspect(coded, False).oddity == ""


def test_frames_of_av1_packets_are_counted_as_ffmpeg_splits_them(reordered_av1):
    with av.open(str(reordered_av1)) as container:
        stream = container.streams.video[0]
        context = BitStreamFilterContext("av1_frame_split", stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        counts = [sum(kind in (3, 6) for kind, _ in frame_headers.obus(bytes(packet))) for packet in packets]
        assert counts == [len(context.filter(packet)) for packet in packets]
    assert max(counts) > 1


@pytest.mark.parametrize("hidden", [1, 2, 7])
def test_frames_of_vp9_superframes_are_counted_as_ffmpeg_splits_them(hidden, vp9):
    with av.open(str(vp9)) as container:
        stream = container.streams.video[0]
        frames = [bytes(packet) for packet in container.demux(stream) if packet.size][1 : 2 + hidden]
        show_frame = 2  # in a header's first byte
        frames[:-1] = [bytes([frame[0] & ~show_frame]) + frame[1:] for frame in frames[:-1]]
        marker = bytes([0b110_01_000 | hidden])  # sizes of two bytes
        index = marker + b"".join(len(frame).to_bytes(2, "little") for frame in frames) + marker
        superframe = b"".join(frames) + index
        assert frame_headers._vp9_frames(superframe) == frames
        split = BitStreamFilterContext("vp9_superframe_split", stream).filter(av.Packet(superframe))
        assert len(split) == hidden + 1
    assert inspector("vp9", None)(superframe, False).oddity == ""


def test_parameter_sets_of_earlier_entries_apply_to_later_ones():
    sequence, first, second, delimiter, picture = b"\x67\1", b"\x68\1", b"\x68\2", b"\x09\xf0", b"\x41\x9a"

    def packet(*units):
        return b"".join(b"\0\0\0\1" + unit for unit in units)

    headers = Headers("h264", packet(sequence, first))
    assert headers.complete(packet(delimiter, picture)) == packet(delimiter, sequence, first, picture)
    headers.update(packet(second, picture))
    assert headers.complete(packet(second, picture)) == packet(sequence, first, second, picture)
    headers.update(packet(first, picture))
    assert headers.complete(packet(picture)) == packet(sequence, second, first, picture)


def test_av1_packets_get_the_sequence_header_after_the_delimiter():
    delimiter, header, other, frame = b"\x12\0", b"\x0a\2ab", b"\x0a\2cd", b"\x32\1x"
    headers = Headers("av1", b"\x81\0\x0c\0" + header)
    assert headers.complete(delimiter + frame) == delimiter + header + frame
    assert headers.complete(frame) == header + frame
    headers.update(delimiter + other + frame)
    assert headers.complete(delimiter + other + frame) == delimiter + other + frame
    assert headers.complete(frame) == other + frame
