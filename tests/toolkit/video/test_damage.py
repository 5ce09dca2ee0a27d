"""Broken movies: what can be read is read, and the damage is counted."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from vis4mer.video import clips, scan
from vis4mer.video.planner import plan


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
    result = video_tools.outcome(path)
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
    numbers, _ = video_tools.outcome(path)
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
    video_tools.outcome(path)


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
    numbers, damage = video_tools.outcome(new_stream, fps=24.0)
    assert numbers[:80] == list(range(80)), "what precedes the damaged group of frames is intact"
    assert len(numbers) == 96
    assert damage.corrupt_packets >= 1


def test_a_stream_that_appears_in_mid_file_ends_no_pass_over_the_packets(new_stream):
    movie = scan(new_stream)
    assert len(movie.index.times) == 94
    wanted = np.arange(94)
    cut = clips.cut(movie, plan(movie.index, movie.index.order), wanted, max_frames=12)
    assert sorted(np.concatenate([clip.numbers for clip in cut])) == wanted.tolist()


def test_a_movie_whose_first_frames_do_not_decode_survives_a_new_stream(new_stream, tmp_path, video_tools):
    """The search for a first frame, too, then reads to the end of the file."""
    data = bytearray(new_stream.read_bytes())
    for offset in starts_of_frames(data):
        data[offset + 60 : offset + TS_PACKET] = bytes(TS_PACKET - 60)
    path = tmp_path / "rubbish.ts"
    path.write_bytes(data)
    video_tools.outcome(path)


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
    video_tools.outcome(path)


def test_damage_is_counted(whole, tmp_path, video_tools):
    data = bytearray(whole["moov-first.mp4"].read_bytes())
    start = len(data) // 2
    data[start : start + 2000] = bytes(2000)
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    numbers, damage = video_tools.outcome(path, fps=24.0)
    assert len(numbers) == 96
    assert damage
    assert damage.notes
    wrong = sum(n != i for i, n in enumerate(numbers))
    assert wrong <= 24, "one hole costs at most the groups that it touches"


def test_a_zeroed_header(plain, tmp_path, video_tools):
    path = tmp_path / "zeroed.mp4"
    path.write_bytes(bytes(512) + plain.read_bytes()[512:])
    video_tools.outcome(path)


def test_a_stream_of_rubbish(plain, tmp_path, video_tools):
    data = bytearray(plain.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = np.random.default_rng(0).bytes(end - start)
    path = tmp_path / "rubbish.mp4"
    path.write_bytes(data)
    video_tools.outcome(path)


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
