"""What the CPU reader makes of timestamps, pixel formats and orientations."""

import gc
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.video import open_video, pyav
from vis4mer.video.ffmpeg import decode, demux


def read(path, video_tools, fps=1.0, **preprocessing):
    size = {"height": video_tools.HEIGHT, "width": video_tools.WIDTH, **preprocessing}
    with open_video(path, Preprocessing(fps=fps, **size)) as reader:
        frames, seconds = video_tools.gather(reader)
        assert len(frames) == reader.n_frames
        assert not reader.damage, reader.damage.notes
    return reader.info, frames, seconds


def numbers(frames, video_tools):
    return [video_tools.number_of(frame) for frame in frames]


def test_variable_frame_rate_is_sampled_by_timestamp(tmp_path, video_tools):
    pts = [0, 1, 2, 50, 51, 99, 100, 101, 250, 251]  # in 1/50 s
    path = video_tools.encode(tmp_path / "vfr.mp4", count=10, rate=50, pts=pts, options=video_tools.x264())
    _, frames, seconds = read(path, video_tools)
    assert numbers(frames, video_tools) == [0, 3, 6, 7, 7, 8]
    assert np.allclose(seconds, np.array([0, 50, 100, 101, 101, 250]) / 50)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_time_starts_at_the_first_frame_whatever_the_file_says(container, tmp_path, video_tools):
    pts = list(range(240, 240 + 48))
    path = video_tools.encode(tmp_path / f"late.{container}", pts=pts, options=video_tools.x264())
    info, frames, seconds = read(path, video_tools, fps=2.0)
    assert numbers(frames, video_tools) == [0, 12, 24, 36]
    assert np.allclose(seconds, [0, 0.5, 1, 1.5], atol=1e-3)
    assert info.duration == pytest.approx(2.0, abs=2e-3)


def test_frames_cut_off_by_an_edit_list_are_not_shown(tmp_path, video_tools):
    path = video_tools.encode(tmp_path / "edited.mp4", options=video_tools.x264())
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # segment duration in ms, then media time in 1/12288 s
    media_time = int.from_bytes(data[entry + 4 : entry + 8], "big") + 12 * 512
    data[entry : entry + 8] = (1500).to_bytes(4, "big") + media_time.to_bytes(4, "big")
    path.write_bytes(data)
    info, frames, seconds = read(path, video_tools, fps=2.0)  # the packets cut off have negative timestamps
    assert numbers(frames, video_tools) == [12, 24, 36]
    assert np.allclose(seconds, [0, 0.5, 1])
    assert info.start == 0


def test_a_movie_is_not_truncated_because_its_sound_lasts_longer(tmp_path, video_tools):
    path = video_tools.add_sound(video_tools.encode(tmp_path / "movie.mkv"), tmp_path / "sound.mkv", seconds=4.0)
    _, frames, _ = read(path, video_tools)
    assert numbers(frames, video_tools) == [0, 24]


def test_a_clock_that_restarts_in_the_middle(tmp_path, video_tools):
    parts = [video_tools.encode(tmp_path / f"{i}.ts", first=48 * i, options=video_tools.x264()) for i in range(2)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(path, Preprocessing(fps=2.0, height=video_tools.HEIGHT, width=video_tools.WIDTH)) as reader:
        frames, seconds = video_tools.gather(reader)
    assert numbers(frames, video_tools) == [0, 12, 24, 36, 48, 60, 72, 84]
    assert np.allclose(seconds, np.arange(8) / 2, atol=0.1)


def test_without_timestamps_frames_are_counted(tmp_path, video_tools):
    path = video_tools.encode(tmp_path / "raw.h264", options=video_tools.x264())
    _, frames, seconds = read(path, video_tools, fps=2.0)
    assert numbers(frames, video_tools) == [0, 12, 24, 36]
    assert np.allclose(seconds, [0, 0.5, 1, 1.5])


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "keyint=24:scenecut=0"}),
        ("libx264", {"x264-params": "keyint=24:scenecut=0:open-gop=1:b-adapt=0"}),
        ("libx265", {"x265-params": "keyint=24:scenecut=0:open-gop=1:log-level=none"}),
    ],
    ids=["closed", "h264-open", "hevc-open"],
)
def test_a_stream_joined_in_the_middle_starts_at_its_first_whole_frame(codec, options, tmp_path, video_tools):
    whole = video_tools.encode(tmp_path / "whole.ts", codec=codec, count=96, options=options)
    with av.open(str(whole)) as container:
        keys = [
            round((p.pts - container.streams.video[0].start_time) * 24 / 90_000)
            for p in container.demux(video=0)
            if p.is_keyframe
        ]
    path = tmp_path / "cut.ts"
    data = whole.read_bytes()
    path.write_bytes(data[len(data) // 188 // 6 * 188 :])  # inside the first group
    with open_video(path, Preprocessing(fps=2.0, height=video_tools.HEIGHT, width=video_tools.WIDTH)) as reader:
        frames, seconds = video_tools.gather(reader)
        assert reader.damage.missing_frames == 0
    assert numbers(frames, video_tools) == list(range(keys[1], 96, 12))
    assert np.allclose(seconds, np.arange(len(seconds)) / 2)


def test_one_frame(tmp_path, video_tools):
    path = video_tools.encode(tmp_path / "one.mp4", count=1, first=77, options=video_tools.x264())
    info, frames, seconds = read(path, video_tools)
    assert numbers(frames, video_tools) == [77]
    assert seconds.tolist() == [0]
    assert info.fps is None


@pytest.mark.parametrize(
    ("pixel_format", "codec", "options"),
    [
        ("yuv420p10le", "libx264", {}),
        ("yuv444p", "libx264", {}),
        ("yuv422p10le", "libx265", {"x265-params": "log-level=none"}),
        ("yuv420p", "libx264", {"x264-params": "tff=1"}),
        ("gray", "ffv1", {}),
        ("rgb24", "png", {}),
        ("bgr0", "ffv1", {}),
    ],
    ids=["10-bit", "4:4:4", "4:2:2 10-bit", "interlaced", "gray", "png", "rgb"],
)
def test_pixel_formats(pixel_format, codec, options, tmp_path, video_tools):
    path = video_tools.encode(
        tmp_path / ("movie.mov" if codec == "png" else "movie.mkv"),
        codec=codec,
        pixel_format=pixel_format,
        options=options,
    )
    info, frames, _ = read(path, video_tools, fps=2.0)
    assert numbers(frames, video_tools) == [0, 12, 24, 36]
    assert info.pixel_format.startswith(pixel_format[:3])
    drawn = np.stack([video_tools.draw(n) for n in (0, 12, 24, 36)]).astype(int)
    if pixel_format != "gray":
        assert np.abs(frames - drawn).mean() < 6


@pytest.mark.parametrize(("width", "height"), [(129, 65), (131, 64), (16, 16), (1, 1)])
def test_odd_sizes(width, height, tmp_path, video_tools):
    path = video_tools.encode(tmp_path / "odd.mkv", codec="ffv1", size=(width, height), pixel_format="yuv420p")
    info, frames, _ = read(path, video_tools, fps=2.0)
    assert (info.width, info.height) == (width, height)
    assert frames.shape == (4, video_tools.HEIGHT, video_tools.WIDTH, 3)
    if width > 100:
        assert numbers(frames, video_tools) == [0, 12, 24, 36]


def test_a_change_of_resolution_inside_the_movie(tmp_path, video_tools):
    small = video_tools.encode(tmp_path / "small.ts", options=video_tools.x264())
    large = video_tools.encode(tmp_path / "large.ts", first=48, size=(256, 160), options=video_tools.x264())
    path = tmp_path / "change.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with open_video(path, Preprocessing(fps=2.0, height=video_tools.HEIGHT, width=video_tools.WIDTH)) as reader:
        frames, _ = video_tools.gather(reader)
        assert reader.damage.missing_frames == 0
    assert numbers(frames, video_tools) == [0, 12, 24, 36, 48, 60, 72, 84]


ORIENTATIONS = [(degrees, mirrored) for degrees in (0, 90, 180, 270) for mirrored in (False, True)]


@pytest.mark.parametrize(("degrees", "mirrored"), ORIENTATIONS)
def test_rotation_is_applied(degrees, mirrored, tmp_path, video_tools):
    path = video_tools.encode(
        tmp_path / "turned.mp4",
        count=2,
        first=25,
        options={"qp": "1", **video_tools.x264()},
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored),
    )
    width, height = video_tools.WIDTH, video_tools.HEIGHT
    shown = {"height": width, "width": height} if degrees % 180 else {}
    info, frames, _ = read(path, video_tools, **shown)
    stored = video_tools.draw(25)
    turned = np.rot90(stored, degrees // 90)  # counterclockwise, as in PyAV; mirrored afterwards
    expected = turned[:, ::-1] if mirrored else turned
    assert frames[0].shape == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 6
    assert (info.width, info.height) == expected.shape[1::-1]
    if not mirrored:
        assert info.rotation == -degrees % 360


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (2, 0.299, 0.114)])
def test_colours_follow_the_streams_matrix_and_range(matrix, kr, kb, full_range, tmp_path):
    """A flat picture of known Y, U and V, against the definition of the matrices (unspecified is BT.601)."""
    luma, u, v = 120, 90, 170
    path = tmp_path / "colour.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"qp": "0"}
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        planes = np.concatenate([np.full(64 * 64, luma), np.full(32 * 32, u), np.full(32 * 32, v)]).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(planes.reshape(96, 64), format="yuv420p")
        frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(path, Preprocessing(height=8, width=8)) as reader:
        (batch,) = reader
    y, pb, pr = (
        (luma, u - 128, v - 128)
        if full_range
        else ((luma - 16) / 219 * 255, (u - 128) / 224 * 255, (v - 128) / 224 * 255)
    )
    red, blue = y + 2 * (1 - kr) * pr, y + 2 * (1 - kb) * pb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    assert np.abs(batch.frames[0].astype(float) - [red, green, blue]).max() <= 1.5


def test_a_frames_picture_is_freed_without_the_garbage_collector(plain):
    def kept():
        return {id(item) for item in gc.get_objects() if type(item) is av.VideoFrame}

    gc.collect()
    before = kept()  # by fixtures and failures of other tests
    gc.disable()
    try:
        with open_video(plain, Preprocessing(fps=24.0, height=8, width=8)) as frames:
            assert sum(len(batch.frames) for batch in frames) == 48
        assert kept() <= before
    finally:
        gc.enable()


def test_demuxing_that_stops_early_closes_pyavs_generator(plain):
    class Demuxed:
        """PyAV's generator, whose closing is observed; unlike Python's, it is not closed when it is dropped."""

        def __init__(self, packets):
            self.packets, self.closed = packets, False

        def __next__(self):
            return next(self.packets)

        def close(self):
            self.closed = True
            self.packets.close()

    with av.open(str(plain)) as container:
        demuxed = Demuxed(container.demux())
        packets = demux(SimpleNamespace(demux=lambda: demuxed))
        assert next(packets).size > 0
        assert not demuxed.closed
        del packets
    assert demuxed.closed


def test_the_number_of_threads_changes_no_frame(plain, monkeypatch, video_tools):
    counts = set()

    def recording(decoder, packet):
        counts.add(decoder.thread_count)
        return decode(decoder, packet)

    monkeypatch.setattr(pyav, "decode", recording)
    expected, _ = video_tools.gather(open_video(plain, Preprocessing(fps=4.0)))
    counts.clear()
    for threads in (1, 3):
        frames, _ = video_tools.gather(open_video(plain, Preprocessing(fps=4.0), threads=threads))
        np.testing.assert_array_equal(frames, expected)
    assert counts == {1, 3}
