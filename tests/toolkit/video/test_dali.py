"""DALI against PyAV where both run without a GPU, and what DALI refuses."""

import logging

import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError, MissingDependencyError, VideoError
from vis4mer.video import dali, open_video
from vis4mer.video.movie import scan

needs_dali = pytest.mark.skipif(not dali.installed(), reason="nvidia-dali-cuda120 is not installed")


def both(path, preprocessing, video_tools, **arguments):
    results = []
    for decoder in ("pyav", "dali"):
        with open_video(path, preprocessing, video_decoder=decoder, **arguments) as reader:
            assert (reader.name, reader.reason) == (decoder, f"video_decoder={decoder} was requested")
            results.append(video_tools.gather(reader))
            assert not reader.damage
    return results


@needs_dali
@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("movie", ["vp9", "mjpeg"])
def test_both_readers_return_the_same_times_and_pixels(movie, resize, interpolation, request, video_tools):
    preprocessing = Preprocessing(fps=3.0, height=40, width=56, resize=resize, interpolation=interpolation)
    (frames, seconds), (others, other_seconds) = both(request.getfixturevalue(movie), preprocessing, video_tools)
    assert np.array_equal(seconds, other_seconds)
    assert np.abs(frames.astype(int) - others).mean() <= 2


@needs_dali
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batch_size_changes_nothing(batch_size, vp9, video_tools):
    assert video_tools.sampled_numbers(vp9, 8.0, video_decoder="dali", batch_size=batch_size) == list(range(0, 48, 3))


@needs_dali
def test_variable_frame_rate(tmp_path, video_tools):
    pts = [0, 1, 2, 50, 51, 99, 100, 101, 250, 251]
    path = video_tools.encode(tmp_path / "vfr.webm", codec="libvpx-vp9", count=10, rate=50, pts=pts)
    assert video_tools.sampled_numbers(path, 1.0, video_decoder="dali") == [0, 3, 6, 7, 7, 8]


@needs_dali
def test_rotation(tmp_path, video_tools):
    path = tmp_path / "turned.mov"
    video_tools.encode(
        path, codec="mjpeg", pixel_format="yuvj420p", prepare=lambda stream: stream.set_display_rotation(90, hflip=True)
    )
    (frames, _), (others, _) = both(path, Preprocessing(height=64, width=32), video_tools)
    assert np.abs(frames.astype(int) - others).mean() <= 2


@needs_dali
def test_frames_shown_in_another_order_than_decoded(tmp_path, video_tools):
    """Alternative reference frames: VP9's hidden ones travel with a shown one."""
    path = tmp_path / "altref.webm"
    video_tools.encode(path, codec="libvpx-vp9", gop=48, options={"cpu-used": "5", "auto-alt-ref": "1"})
    assert video_tools.sampled_numbers(path, 4.0, video_decoder="dali") == list(range(0, 48, 6))


@needs_dali
def test_what_dali_cannot_read_is_refused_with_a_remedy(plain):
    with pytest.raises(VideoError, match=r"DALI does not decode h264 on the CPU; use video_decoder='pyav'$"):
        open_video(plain, Preprocessing(), video_decoder="dali")


@pytest.mark.parametrize(
    ("codec", "pixel_format", "options", "problem"),
    [
        ("libx264", "yuv420p", {}, None),
        ("mpeg4", "yuv420p", {}, None),
        ("libx264", "yuv420p10le", {}, "yuv420p10le"),
        ("libx264", "yuv444p", {}, "yuv444p"),
        ("ffv1", "yuv420p", {}, "ffv1"),
        ("libx264", "yuv420p", {"x264-params": "colormatrix=bt709"}, None),
        ("libx264", "yuv420p", {"x264-params": "colormatrix=bt2020nc"}, None),
        ("libx264", "yuv420p", {"x264-params": "colormatrix=bt2020c"}, "colour matrix 10"),
        ("libx264", "yuvj420p", {}, None),
        ("libx264", "yuvj420p", {"x264-params": "colormatrix=bt709"}, None),
        ("mjpeg", "yuvj420p", {}, "does not find the full range of this mjpeg video"),
    ],
)
def test_what_the_gpu_path_takes(codec, pixel_format, options, problem, tmp_path, video_tools):
    path = tmp_path / "movie.mkv"
    video_tools.encode(path, codec=codec, pixel_format=pixel_format, options=options, count=5)
    found = dali.obstacle(scan(path), Device("cuda"))
    assert found is None if problem is None else problem in found


def test_a_range_that_the_container_alone_declares_is_left_to_pyav(tmp_path, video_tools):
    def prepare(stream):
        stream.codec_context.color_range = 2

    path = tmp_path / "movie.mkv"
    options = {"x264-params": "fullrange=off"}
    video_tools.encode(path, options=options, count=5, prepare=prepare)
    movie = scan(path)
    assert (movie.full_range, movie.range_is_coded) == (True, False)
    assert "does not find the full range of this h264 video" in dali.obstacle(movie, Device("cuda"))


def test_odd_sizes_are_left_to_pyav(tmp_path, video_tools):
    path = video_tools.encode(tmp_path / "movie.mkv", codec="libvpx-vp9", size=(129, 65), count=5)
    assert "odd size, 129 x 65" in dali.obstacle(scan(path), Device("cuda"))


def test_damaged_movies_are_left_to_pyav(vp9, tmp_path):
    path = tmp_path / "cut.webm"
    path.write_bytes(vp9.read_bytes()[: vp9.stat().st_size // 2])
    assert "damaged" in dali.obstacle(scan(path), Device("cuda"))


def test_without_the_package_the_error_names_the_extra(vp9, monkeypatch):
    monkeypatch.setattr(dali, "installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"\[dali\]"):
        open_video(vp9, Preprocessing(), video_decoder="dali")


@needs_dali
def test_without_a_gpu_auto_falls_back_and_an_explicit_request_fails(vp9, caplog):
    with open_video(vp9, Preprocessing(), device=Device("cuda", 63)) as reader:  # no machine has that many
        assert reader.name == "pyav"
        assert "no GPU" in reader.reason
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    with pytest.raises(DeviceError, match=r"device='cuda:63'"):
        open_video(vp9, Preprocessing(), video_decoder="dali", device=Device("cuda", 63))


@pytest.mark.gpu
@needs_dali
@pytest.mark.parametrize("container", ["mp4", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_gpu_returns_the_frames_of_pyav(codec, container, tmp_path, video_tools):
    path = tmp_path / f"movie.{container}"
    options = video_tools.x264() if codec == "libx264" else {"x265-params": "log-level=none"}
    video_tools.encode(path, codec=codec, options=options, size=(256, 192))
    preprocessing = Preprocessing(fps=3.0, height=48, width=64)
    (frames, seconds), (others, other_seconds) = both(path, preprocessing, video_tools, device=Device("cuda"))
    assert np.array_equal(seconds, other_seconds)
    assert np.abs(frames.astype(int) - others).mean() <= 2
