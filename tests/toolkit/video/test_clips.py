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

from vis4mer.video import clips
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
    return "libvpx-vp9", {"deadline": "good", "cpu-used": "5", "lag-in-frames": "12", **options}


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
    "vp9 hidden frames": ("webm", vp9(**{"auto-alt-ref": "1"})),
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
        packet = av.Packet(data)
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
