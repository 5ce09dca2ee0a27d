"""Which stream of a file is the movie, and files that have none."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.video import open_video


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"just some text\n" * 50, os.urandom(20_000), b"\x1aE\xdf\xa3"])
def test_files_that_are_not_movies(content, tmp_path, video_tools):
    path = tmp_path / "movie.mp4"
    path.write_bytes(content)
    assert "movie" in video_tools.outcome(path)


def test_the_content_counts_not_the_extension(plain, tmp_path, video_tools):
    for name in ("movie.txt", "movie.avi", "movie.jpg", "movie"):
        path = tmp_path / name
        path.write_bytes(plain.read_bytes())
        numbers, damage = video_tools.outcome(path)
        assert numbers == [0, 6, 12, 18, 24, 30, 36, 42]
        assert not damage


def test_audio_only(tmp_path, video_tools):
    path = video_tools.add_sound(None, tmp_path / "sound.mp4", 1.0)
    assert "holds no video stream" in video_tools.outcome(path)


def test_no_frame_at_all(tmp_path, video_tools):
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(None))
    assert isinstance(video_tools.outcome(path), str)


def cover(tmp_path, video_tools, movie):
    """A file with a cover picture (PNG, attached) and perhaps a movie beside it."""
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        template = container.add_stream("libx264", rate=24) if movie else container.add_stream("aac", rate=8000)
        if movie:
            template.width, template.height, template.pix_fmt = video_tools.WIDTH, video_tools.HEIGHT, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        container.mux(picture.encode(frame))
        for i in range(24):
            if movie:
                frame = av.VideoFrame.from_ndarray(video_tools.draw(i), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 24)
            else:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 8000, 1024 * i, Fraction(1, 8000)
            container.mux(template.encode(frame))
        container.mux(template.encode(None))
    return path


def test_a_cover_picture_is_not_a_movie(tmp_path, video_tools):
    assert "only a cover picture" in video_tools.outcome(cover(tmp_path, video_tools, movie=False))


def test_a_cover_picture_beside_the_movie_is_ignored(tmp_path, video_tools):
    numbers, _ = video_tools.outcome(cover(tmp_path, video_tools, movie=True))
    assert numbers == [0, 6, 12, 18]


def test_the_first_of_several_video_streams_is_read(tmp_path, video_tools):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=24) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = video_tools.WIDTH, video_tools.HEIGHT, "yuv420p"
        for i in range(24):
            for k, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(video_tools.draw(i + 100 * k), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 24)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    numbers, _ = video_tools.outcome(path)
    assert numbers == [0, 6, 12, 18]
    with open_video(path, Preprocessing()) as reader:
        assert reader.info.video_streams == 2


def test_an_unknown_codec(plain, tmp_path, video_tools):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(plain.read_bytes().replace(b"avc1", b"zzz9"))
    assert "codec" in video_tools.outcome(path)


def test_a_clock_that_ticks_once_a_day_is_refused(movies, tmp_path, video_tools):
    """Its few frames would stand for years, and for millions of samples."""
    data = bytearray(video_tools.encode(movies / "clock.avi", codec="mpeg4").read_bytes())
    scale = data.index(b"strh") + 28  # seconds per tick are scale / rate
    rate = int.from_bytes(data[scale + 4 : scale + 8], "little")
    data[scale : scale + 4] = (86_400 * rate).to_bytes(4, "little")
    path = tmp_path / "clock.avi"
    path.write_bytes(data)
    assert "one tick of its clock is 86400 s" in video_tools.outcome(path)
