"""Pictures that are not shown as they are stored, and those that cannot be shown."""

import struct

import av
import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.video import open_video
from vis4mer.video.ffmpeg import content_call


# Matrices that FFmpeg reads but does not convert to RGB.
@pytest.mark.parametrize("matrix", ["YCgCo", "bt2020c", "ICtCp"])
def test_a_colour_matrix_that_cannot_be_converted(matrix, tmp_path, video_tools):
    options = video_tools.x264(extra=f"colormatrix={matrix}")
    path = video_tools.encode(tmp_path / "colours.mkv", count=5, options=options)
    message = video_tools.outcome(path)
    assert "cannot be converted to RGB" in message
    assert "convert it to H.264" in message


@pytest.mark.parametrize("shortage", [MemoryError(), BlockingIOError(11, "Resource temporarily unavailable")], ids=repr)
@pytest.mark.parametrize(
    ("function", "action"),
    [("to_rgb", "to convert its pictures to RGB"), ("decode", "to decode it")],
)
def test_too_little_memory_is_no_damage(function, action, shortage, plain, monkeypatch, video_tools):
    def fail(*_):
        raise shortage

    monkeypatch.setattr(f"vis4mer.video.pyav.{function}", content_call(fail))
    assert f"too little memory, or too few threads, {action}" in video_tools.outcome(plain)


def add_exif(source, path, orientation):
    """Copies a movie of JPEG pictures and gives each one an EXIF block with an orientation (1 to 8)."""
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    block = b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff
    with av.open(str(source)) as movie, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(movie.streams.video[0])
        for packet in movie.demux(video=0):
            if packet.size:
                data = bytes(packet)
                copy = av.Packet(data[:2] + block + data[2:])  # behind the marker that starts the picture
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.stream = True, stream
                output.mux(copy)
    return path


@pytest.mark.parametrize(("orientation", "rotation"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_side_data_that_pyav_cannot_name(orientation, rotation, mjpeg, tmp_path):
    path = add_exif(mjpeg, tmp_path / "exif.mkv", orientation)
    with open_video(path, Preprocessing(height=64, width=64)) as reader, open_video(mjpeg, Preprocessing()) as plain:
        assert reader.info.rotation == rotation
        shape = (plain.info.width, plain.info.height)
        assert (reader.info.width, reader.info.height) == (shape if rotation % 180 == 0 else shape[::-1])
        (frames, *_), (upright, *_) = ([batch.frames for batch in r] for r in (reader, plain))
        assert not reader.damage
    turned = np.rot90(upright, -rotation // 90, axes=(1, 2))
    assert frames.shape[0] == turned.shape[0]
    assert abs(frames.mean() - turned.mean()) < 2


@pytest.mark.parametrize("matrix", [(0,) * 9, (-(2**31),) * 9, (0, 0, 0, 65536, 0, 0, 0, 0, 1 << 30)])
def test_a_display_matrix_that_rotates_by_no_angle(matrix, tmp_path, video_tools):
    path = video_tools.encode(
        tmp_path / "turned.mp4", options=video_tools.x264(), prepare=lambda stream: stream.set_display_rotation(90)
    )
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # version and flags, times, identifiers, volume come before
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    numbers, damage = video_tools.outcome(path)
    assert len(numbers) == 8
    assert not damage
    with open_video(path, Preprocessing()) as reader:
        assert reader.info.rotation == (0 if matrix[0] == 0 else 180)
