"""Broken and hostile files: either frames with the damage counted, or one line that says what is wrong."""

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.devices.device import CPU
from vis4mer.errors import VideoError
from vis4mer.video import dali, open_video, scan


def outcome(path, video_tools, fps=4.0):
    """(numbers of the frames, damage), or the one-line message of the error."""
    preprocessing = Preprocessing(fps=fps, height=video_tools.HEIGHT, width=video_tools.WIDTH)
    try:
        with open_video(path, preprocessing) as reader:
            frames, seconds = video_tools.gather(reader)
            assert len(frames) == reader.n_frames
            assert np.all(np.diff(seconds) >= 0)
            return [video_tools.number_of(frame) for frame in frames], reader.damage
    except VideoError as error:
        assert str(error).startswith(f"video={os.fspath(path)!r}: ")
        assert "\n" not in str(error)
        return str(error)


@pytest.fixture(scope="module")
def whole(movies, video_tools):
    """Four seconds in every container whose truncation matters."""
    options = video_tools.x264(gop=12)
    return {
        name: video_tools.encode(movies / f"whole-{name}", count=96, options=options, container_options=container)
        for name, container in {
            "moov-first.mp4": {"movflags": "faststart"},
            "moov-last.mp4": {},
            "movie.mkv": {},
            "movie.ts": {},
        }.items()
    }


@pytest.mark.parametrize("sixteenths", range(16))
@pytest.mark.parametrize("name", ["moov-first.mp4", "moov-last.mp4", "movie.mkv", "movie.ts"])
def test_truncated_files(name, sixteenths, whole, tmp_path, video_tools):
    data = whole[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * sixteenths // 16])
    result = outcome(path, video_tools)
    if isinstance(result, str):
        assert name == "moov-last.mp4" or sixteenths < 4, "what can be read is read"
        return
    numbers, damage = result
    numbers = numbers[:-1]  # the last one may be the frame before, where reordering put the right one further on
    right = sum(number == 6 * i for i, number in enumerate(numbers))
    assert len(numbers) - right <= damage.missing_frames + damage.corrupt_frames
    assert right >= sixteenths - 4
    if name in ("moov-first.mp4", "movie.mkv") and sixteenths <= 12:
        assert damage.truncated
        assert any("ends before" in note for note in damage.notes)


@pytest.mark.parametrize("name", ["moov-first.mp4", "movie.mkv", "movie.ts"])
def test_flipped_bytes_cost_few_frames(name, whole, tmp_path, video_tools):
    data = bytearray(whole[name].read_bytes())
    rng = np.random.default_rng(3)
    for position in rng.integers(len(data) // 4, len(data), 6):
        data[position] ^= 0xFF
    path = tmp_path / name
    path.write_bytes(data)
    numbers, _ = outcome(path, video_tools)
    expected = [6 * i for i in range(16)]
    assert sum(a == b for a, b in zip(numbers, expected, strict=False)) >= 8


@pytest.mark.parametrize("seed", range(24))
def test_random_damage_never_escapes(seed, whole, tmp_path, video_tools):
    rng = np.random.default_rng(seed)
    name = list(whole)[seed % 4]
    data = bytearray(whole[name].read_bytes())
    for _ in range(rng.integers(1, 6)):
        start = int(rng.integers(0, len(data)))
        length = int(rng.integers(1, 400))
        data[start : start + length] = rng.bytes(min(length, len(data) - start))
    path = tmp_path / name
    path.write_bytes(data)
    outcome(path, video_tools)


TS_PACKET = 188  # bytes
NEW_STREAM = 0x1E0  # a PID that no program map declares


def starts_of_frames(data):
    """Offsets of the transport packets that begin a PES packet of the movie's stream, PID 256."""
    header = np.frombuffer(data, np.uint8).reshape(-1, TS_PACKET)[:, 1:3].astype(int)
    begins, pid = header[:, 0] & 0x40, (header[:, 0] & 0x1F) << 8 | header[:, 1]
    return (np.flatnonzero((begins != 0) & (pid == 256)) * TS_PACKET).tolist()


def move_to_a_new_stream(data, offsets):
    data = bytearray(data)
    for offset in offsets:
        data[offset + 1] = data[offset + 1] & 0xE0 | NEW_STREAM >> 8
        data[offset + 2] = NEW_STREAM & 0xFF
    return data


@pytest.fixture
def new_stream(whole, tmp_path):
    """A movie two frames of which lie in a stream that begins after FFmpeg has listed the streams."""
    data = whole["movie.ts"].read_bytes()
    path = tmp_path / "new-stream.ts"
    path.write_bytes(move_to_a_new_stream(data, starts_of_frames(data)[84:86]))
    return path


def test_a_stream_that_appears_in_mid_file_is_skipped_and_counted(new_stream, video_tools):
    numbers, damage = outcome(new_stream, video_tools, fps=24.0)
    assert numbers[:80] == list(range(80)), "what precedes the damaged group of frames is intact"
    assert len(numbers) == 96
    assert damage.corrupt_packets >= 1


def test_a_stream_that_appears_in_mid_file_ends_no_pass_over_the_packets(new_stream, monkeypatch):
    movie = scan(new_stream)
    assert len(movie.index.times) == 94
    monkeypatch.setattr(dali, "_build_pipeline", lambda device, batch_size: None)
    reader = dali.DALIReader(movie, Preprocessing(fps=24.0), device=CPU, reason="", batch_size=12)
    numbers = np.concatenate([clip.numbers for clip in reader._clips()])
    assert sorted(numbers) == list(range(94))


def test_a_movie_whose_first_frames_do_not_decode_survives_a_new_stream(new_stream, tmp_path, video_tools):
    """The search for a first frame, too, then reads to the end of the file."""
    data = bytearray(new_stream.read_bytes())
    for offset in starts_of_frames(data):
        data[offset + 60 : offset + TS_PACKET] = bytes(TS_PACKET - 60)
    path = tmp_path / "rubbish.ts"
    path.write_bytes(data)
    outcome(path, video_tools)


@pytest.fixture
def time_limit():
    """Ends the test run if a test hangs, even inside FFmpeg, where no Python exception could reach it."""
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("seed", range(40))
def test_damaged_transport_streams_never_escape(seed, whole, tmp_path, video_tools):
    """Half of the seeds hit the fields of packet headers, where a new PID is a new stream."""
    rng = np.random.default_rng(seed)
    data = bytearray(whole["movie.ts"].read_bytes())
    for packet in rng.integers(0, len(data) // TS_PACKET, 20).tolist():
        start = packet * TS_PACKET
        if seed % 2:
            data[start + int(rng.integers(0, TS_PACKET))] = int(rng.integers(256))
        else:
            data[start + 1], data[start + 2] = 0x40 | int(rng.integers(2)), int(rng.integers(256))
    path = tmp_path / "movie.ts"
    path.write_bytes(data)
    outcome(path, video_tools)


def test_damage_is_counted(whole, tmp_path, video_tools):
    data = bytearray(whole["moov-first.mp4"].read_bytes())
    start = len(data) // 2
    data[start : start + 2000] = bytes(2000)
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    numbers, damage = outcome(path, video_tools, fps=24.0)
    assert len(numbers) == 96
    assert damage
    assert damage.notes
    wrong = sum(n != i for i, n in enumerate(numbers))
    assert wrong <= 24, "one hole costs at most the groups that it touches"


# Matrices that FFmpeg reads but does not convert to RGB.
@pytest.mark.parametrize("matrix", ["YCgCo", "bt2020c", "ICtCp"])
def test_a_colour_matrix_that_cannot_be_converted(matrix, tmp_path, video_tools):
    options = video_tools.x264(extra=f"colormatrix={matrix}")
    path = video_tools.encode(tmp_path / "colours.mkv", count=5, options=options)
    message = outcome(path, video_tools)
    assert "cannot be converted to RGB" in message
    assert "convert it to H.264" in message


def test_a_picture_that_does_not_fit_into_memory(plain, monkeypatch, video_tools):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("vis4mer.video.pyav.upright", fail)
    assert "cannot be converted to RGB (MemoryError)" in outcome(plain, video_tools)


def test_a_thread_that_does_not_fit_into_memory(plain, monkeypatch, video_tools):
    def fail(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("vis4mer.video.pyav.upright", fail)
    assert "too little memory, or too few threads, to convert its pictures" in outcome(plain, video_tools)


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
    numbers, damage = outcome(path, video_tools)
    assert len(numbers) == 8
    assert not damage
    with open_video(path, Preprocessing()) as reader:
        assert reader.info.rotation == (0 if matrix[0] == 0 else 180)


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"just some text\n" * 50, os.urandom(20_000), b"\x1aE\xdf\xa3"])
def test_files_that_are_not_movies(content, tmp_path, video_tools):
    path = tmp_path / "movie.mp4"
    path.write_bytes(content)
    assert "movie" in outcome(path, video_tools)


def test_a_zeroed_header(plain, tmp_path, video_tools):
    path = tmp_path / "zeroed.mp4"
    path.write_bytes(bytes(512) + plain.read_bytes()[512:])
    outcome(path, video_tools)


def test_the_content_counts_not_the_extension(plain, tmp_path, video_tools):
    for name in ("movie.txt", "movie.avi", "movie.jpg", "movie"):
        path = tmp_path / name
        path.write_bytes(plain.read_bytes())
        numbers, damage = outcome(path, video_tools)
        assert numbers == [0, 6, 12, 18, 24, 30, 36, 42]
        assert not damage


def test_audio_only(tmp_path, video_tools):
    path = video_tools.add_sound(None, tmp_path / "sound.mp4", 1.0)
    assert "holds no video stream" in outcome(path, video_tools)


def test_no_frame_at_all(tmp_path, video_tools):
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(None))
    assert isinstance(outcome(path, video_tools), str)


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
    assert "only a cover picture" in outcome(cover(tmp_path, video_tools, movie=False), video_tools)


def test_a_cover_picture_beside_the_movie_is_ignored(tmp_path, video_tools):
    numbers, _ = outcome(cover(tmp_path, video_tools, movie=True), video_tools)
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
    numbers, _ = outcome(path, video_tools)
    assert numbers == [0, 6, 12, 18]
    with open_video(path, Preprocessing()) as reader:
        assert reader.info.video_streams == 2


def test_an_unknown_codec(plain, tmp_path, video_tools):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(plain.read_bytes().replace(b"avc1", b"zzz9"))
    assert "codec" in outcome(path, video_tools)


def test_a_stream_of_rubbish(plain, tmp_path, video_tools):
    data = bytearray(plain.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = np.random.default_rng(0).bytes(end - start)
    path = tmp_path / "rubbish.mp4"
    path.write_bytes(data)
    outcome(path, video_tools)


def test_things_that_are_not_regular_files(tmp_path, video_tools):
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    for path in (fifo, tmp_path, "/dev/zero", "/dev/null", tmp_path / "socket"):
        assert "pass a regular movie file" in outcome(path, video_tools)
    server.close()


def test_missing_files(tmp_path, video_tools):
    assert "no such file" in outcome(tmp_path / "missing.mp4", video_tools)
    assert isinstance(outcome(tmp_path / ("x" * 300), video_tools), str)
    assert isinstance(outcome("nul\0byte.mp4", video_tools), str)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert isinstance(outcome(loop, video_tools), str)


def test_unreadable_files(plain, video_tools):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "secret.mp4"
        path.write_bytes(plain.read_bytes())
        path.chmod(0)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root would read it all the same
        try:
            assert "permission denied" in outcome(path, video_tools)
        finally:
            os.seteuid(user)


NAMES = [
    "two words",
    "Füße 電影 🎬",
    "new\nline",
    "a:b",
    "%03d",
    "frame%d",
    "-",
    "-i",
    "http:",
    "concat:a|b",
    "pipe:",
    "file:x",
]


@pytest.mark.parametrize("name", [*NAMES, "a*b?[c]", "data:,x", "subfile,,start,0,end,9,,:x"])
def test_names_are_only_names(name, plain, tmp_path, monkeypatch, video_tools):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(plain.read_bytes())
    for path in (name, tmp_path / name):
        numbers, _ = outcome(path, video_tools)
        assert numbers == [0, 6, 12, 18, 24, 30, 36, 42]


def test_a_name_that_is_not_unicode(plain, tmp_path, video_tools):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    with open(path, "wb") as file:  # noqa: PTH123 (pathlib would do the same)
        file.write(plain.read_bytes())
    numbers, _ = outcome(path, video_tools)
    assert numbers[:2] == [0, 6]


@pytest.fixture
def listener():
    """A local address that fails the test when anyone connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "file '{target}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{target}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "[Script Info]\n{target}\n",
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
    ],
    ids=["hls", "ffconcat", "concat", "sdp", "dash", "ass", "svg"],
)
def test_scripts_disguised_as_movies_reach_nothing(script, listener, plain, tmp_path, video_tools):
    for target in (plain, f"http://127.0.0.1:{listener}/movie.ts"):
        path = tmp_path / "movie.mp4"
        path.write_text(script.format(target=target, port=listener))
        assert "not a movie" in outcome(path, video_tools)


@pytest.mark.parametrize(
    "name", ["http://127.0.0.1:{port}/movie.mp4", "concat:{plain}|{plain}", "pipe:0", "tcp://127.0.0.1:{port}"]
)
def test_addresses_are_missing_files(name, listener, plain, video_tools):
    assert "no such file" in outcome(name.format(port=listener, plain=plain), video_tools)


def test_a_movie_that_refers_to_another_file(plain, tmp_path, video_tools):
    """QuickTime may keep its data elsewhere (dref 'alis'); whatever the reference says, nothing else is opened."""
    data = plain.read_bytes()
    start = data.index(b"url \0\0\0\1") + 4  # flag 1: the data is in this file
    path = tmp_path / "reference.mov"
    path.write_bytes(data[:start] + b"\0\0\0\0" + data[start + 4 :])
    outcome(path, video_tools)


def test_an_interrupted_read_ends_at_once(whole):
    """Ctrl-C reaches Python between packets, with all of FFmpeg's threads running."""
    program = (
        "import os, signal, sys, threading\n"
        "from vis4mer.config import Preprocessing\n"
        "from vis4mer.video import open_video\n"
        "reader = open_video(sys.argv[1], Preprocessing(fps=24.0), batch_size=1)\n"
        "try:\n"
        "    for i, batch in enumerate(reader):\n"
        "        if i == 3:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
        "sys.exit(f'ran to batch {i}')\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(whole["movie.ts"])], timeout=60, capture_output=True)
    assert run.returncode == 130, run.stderr
    assert run.stderr == b""


def test_a_clock_that_ticks_once_a_day_is_refused(movies, tmp_path, video_tools):
    """Its few frames would stand for years, and for millions of samples."""
    data = bytearray(video_tools.encode(movies / "clock.avi", codec="mpeg4").read_bytes())
    scale = data.index(b"strh") + 28  # seconds per tick are scale / rate
    rate = int.from_bytes(data[scale + 4 : scale + 8], "little")
    data[scale : scale + 4] = (86_400 * rate).to_bytes(4, "little")
    path = tmp_path / "clock.avi"
    path.write_bytes(data)
    assert "one tick of its clock is 86400 s" in outcome(path, video_tools)
