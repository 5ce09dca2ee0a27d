from fractions import Fraction

import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.video.index import PacketIndex
from vis4mer.video.movie import scan
from vis4mer.video.planner import DecodePlan, plan
from vis4mer.video.pyav import PyAVReader


def index(times, entries, *, closed=True, disposable=()):
    times = np.array(times, np.int64)
    at = np.arange(len(times))
    entry = np.isin(at, entries)
    return PacketIndex(
        times=times,
        entry=entry,
        closed=entry & closed,
        disposable=np.isin(at, disposable),
        order=np.argsort(times, kind="stable"),
        end=int(times.max()) + 1,
        time_base=Fraction(1),
        counted=False,
        corrupt=0,
        truncated=False,
    )


def planned(packet_index, wanted):
    todo = plan(packet_index, np.array(wanted))
    return np.flatnonzero(todo.send).tolist(), np.flatnonzero(todo.drain).tolist()


# Two groups in decoding order: I0 P2 b1 P4 b3 | I5 P7 b6 P9 b8, the b unreferenced.
CLOSED = index([0, 2, 1, 4, 3, 5, 7, 6, 9, 8], entries=[0, 5], disposable=[2, 4, 7, 9])
# The second group is open: I7 is decoded before b5 and b6, which are shown before it and refer to P4.
OPEN = index([0, 2, 1, 4, 3, 7, 5, 6, 9, 8], entries=[0, 5], closed=False, disposable=[2, 4, 6, 7, 9])


@pytest.mark.parametrize(
    ("wanted", "send", "drain"),
    [
        ([0], [0], [0]),  # nothing after the last wanted frame
        ([3], [0, 1, 3], [3]),  # no unreferenced frame that nobody wants
        ([4], [0, 1, 3, 4], [4]),  # a wanted one with what it refers to
        ([5], [5], [5]),  # no group without a wanted frame
        ([2, 6], [0, 1, 2, 5, 6], [2, 6]),
    ],
)
def test_closed_groups(wanted, send, drain):
    assert planned(CLOSED, wanted) == (send, drain)


def test_a_leading_picture_needs_the_group_before():
    assert planned(OPEN, [7]) == ([0, 1, 3, 5, 7], [7])


def test_an_open_group_alone_does_not():
    assert planned(OPEN, [8]) == ([5, 8], [8])


def test_packets_before_the_first_entry_are_never_sent():
    late = index([0, 1, 2, 3], entries=[2])
    assert planned(late, [3]) == ([2, 3], [3])


ENCODINGS = {
    **{
        f"h264-{gop}-{b_frames}-{kind}": ("mp4", "libx264", gop, b_frames, {"x264-params": extra})
        for gop in (12, 48, 250)
        for b_frames in (0, 3)
        for kind, extra in {
            "closed": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}",
            "open": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:open-gop=1:b-adapt=0",
        }.items()
        if not (b_frames == 0 and kind == "open")
    },
    "h264-ts-open": ("ts", "libx264", 12, 3, {"x264-params": "keyint=12:scenecut=0:open-gop=1:b-pyramid=strict"}),
    "h264-mkv": ("mkv", "libx264", 12, 3, {"x264-params": "keyint=12:scenecut=0:bframes=3:b-adapt=0:ref=4"}),
    "h264-intra-refresh": ("mp4", "libx264", 12, 0, {"x264-params": "intra-refresh=1:keyint=12:scenecut=0"}),
    "h264-interlaced": ("mp4", "libx264", 12, 3, {"x264-params": "keyint=12:tff=1:b-adapt=0"}),
    "hevc-open": ("mp4", "libx265", 12, 3, {"x265-params": "keyint=12:scenecut=0:open-gop=1:log-level=none"}),
    "hevc-closed": ("mkv", "libx265", 12, 0, {"x265-params": "keyint=12:scenecut=0:open-gop=0:log-level=none"}),
    "hevc-radl": ("mp4", "libx265", 12, 3, {"x265-params": "keyint=12:open-gop=0:radl=2:log-level=none"}),
    "hevc-layers": ("ts", "libx265", 24, 4, {"x265-params": "keyint=24:temporal-layers=3:log-level=none"}),
    "vp9": ("webm", "libvpx-vp9", 12, None, {"deadline": "realtime", "cpu-used": "8"}),
    "vp9-altref": ("webm", "libvpx-vp9", 48, None, {"cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1"}),
    "vp8": ("webm", "libvpx", 12, None, {"deadline": "realtime"}),
    "av1": ("mp4", "libsvtav1", 12, None, {"preset": "12", "crf": "20", "svtav1-params": "lp=1"}),
    "mpeg4": ("avi", "mpeg4", 12, 2, {}),
    "mpeg4-mp4": ("mp4", "mpeg4", 48, 2, {"sc_threshold": "1000000000"}),
    "mpeg2": ("ts", "mpeg2video", 12, 2, {"sc_threshold": "1000000000"}),
    "mpeg2-closed": ("mpg", "mpeg2video", 12, 0, {}),
    "mjpeg": ("avi", "mjpeg", 12, None, {}),
    "raw-h264": ("h264", "libx264", 12, 3, {}),
}


class DecodeEverything(PyAVReader):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        count = len(self._plan.send)
        self._plan = DecodePlan(np.ones(count, bool), np.arange(count) == count - 1)


@pytest.mark.parametrize("name", ENCODINGS)
def test_frames_are_bit_identical_to_decoding_everything(name, tmp_path, video_tools):
    container, codec, gop, b_frames, options = ENCODINGS[name]
    path = tmp_path / f"movie.{container}"
    if codec == "libx264":
        options = {"preset": "veryfast", **options}
    elif codec == "libx265":
        options = {"preset": "ultrafast", **options}
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    video_tools.encode(
        path, codec=codec, count=100, gop=gop, b_frames=b_frames, options=options, pixel_format=pixel_format
    )
    movie = scan(path)
    assert len(movie.index.order) == 100
    size = {"height": video_tools.HEIGHT, "width": video_tools.WIDTH}
    for fps, times in ((2.0, None), (5.3, None), (1.0, [1.1, 1.5, 3.9])):
        results = []
        for reader in (PyAVReader, DecodeEverything):
            with reader(movie, Preprocessing(fps=fps, **size), reason="", times=times) as frames:
                results.append(video_tools.gather(frames))
                assert not frames.damage
        (planned_frames, planned_seconds), (all_frames, all_seconds) = results
        assert np.array_equal(planned_seconds, all_seconds)
        assert np.array_equal(planned_frames, all_frames)
        wanted = times or np.arange(len(planned_frames)) / fps
        expected = [int(np.floor(t * 24 + 1e-6)) for t in wanted]
        assert [video_tools.number_of(frame) for frame in planned_frames] == expected


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("h264-12-3-closed", 9),
        ("h264-48-3-closed", 40),
        ("hevc-open", 40),
        ("mpeg2", 40),
        ("mpeg4-mp4", 40),
        ("mjpeg", 5),
    ],
)
def test_the_plan_saves_decoding(name, sent, tmp_path, video_tools):
    container, codec, gop, b_frames, options = ENCODINGS[name]
    path = tmp_path / f"movie.{container}"
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    video_tools.encode(
        path, codec=codec, count=100, gop=gop, b_frames=b_frames, options=options, pixel_format=pixel_format
    )
    movie = scan(path)
    todo = plan(movie.index, movie.index.order[movie.sample(Preprocessing(fps=1.0))])
    assert todo.send.sum() <= sent
