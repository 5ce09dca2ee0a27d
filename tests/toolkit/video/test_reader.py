"""Which reader is picked and why, and what every reader promises."""

import logging
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError
from vis4mer.video import dali, open_video, reader, scan
from vis4mer.video.pyav import PyAVReader


def test_batches_are_bounded_and_state_when_each_frame_is_shown(plain, video_tools):
    with open_video(plain, Preprocessing(fps=6.0, height=32, width=64), batch_size=5) as frames:
        batches = list(frames)
        assert frames.n_frames == 12
    assert [len(batch.frames) for batch in batches] == [5, 5, 2]
    for batch in batches:
        assert batch.frames.dtype == np.uint8
        assert batch.frames.shape[1:] == (32, 64, 3)
        assert batch.pts_seconds.dtype == np.float64
    assert np.allclose(np.concatenate([batch.pts_seconds for batch in batches]), np.arange(12) / 6)


def test_info_describes_the_movie(plain, video_tools):
    with open_video(plain, Preprocessing()) as frames:
        info = frames.info
    assert (info.path, info.codec, info.pixel_format) == (str(plain), "h264", "yuv420p")
    assert (info.width, info.height, info.rotation) == (video_tools.WIDTH, video_tools.HEIGHT, 0)
    assert (info.duration, info.fps, info.start, info.video_streams) == (2.0, 24.0, 0.0, 1)


def test_closing_ends_an_iteration_in_another_thread(plain, monkeypatch):
    decoding, go_on = threading.Event(), threading.Event()
    decode = PyAVReader._decode

    def held_up(self, damage):
        for number, frame in enumerate(decode(self, damage)):
            if number == 5:
                decoding.set()
                assert go_on.wait(30)
            yield frame

    monkeypatch.setattr(PyAVReader, "_decode", held_up)
    with open_video(plain, Preprocessing(fps=24.0, height=8, width=8), batch_size=4, video_decoder="pyav") as frames:
        assert frames.n_frames == 48
        batches, iterator = [], iter(frames)
        thread = threading.Thread(target=lambda: batches.extend(iterator))
        thread.start()
        assert decoding.wait(30)
        frames.close()
        go_on.set()
        thread.join(30)
        assert not thread.is_alive()
    assert sum(len(batch.frames) for batch in batches) == 5
    frames.close()


def test_a_new_iteration_ends_an_older_one_in_another_thread(plain, monkeypatch, video_tools):
    """The older one decodes its next frame only after the newer one has begun, and its damage stays its own."""
    decoding, go_on, first = threading.Event(), threading.Event(), threading.Lock()
    decode = PyAVReader._decode

    def held_up(self, damage):
        held = first.acquire(blocking=False)
        for number, frame in enumerate(decode(self, damage)):
            if held and number == 5:
                decoding.set()
                assert go_on.wait(30)
                damage.corrupt_packets += 1
            yield frame

    monkeypatch.setattr(PyAVReader, "_decode", held_up)
    with open_video(plain, Preprocessing(fps=24.0, height=8, width=8), batch_size=4, video_decoder="pyav") as frames:
        older = []
        thread = threading.Thread(target=lambda iterator: older.extend(iterator), args=(iter(frames),))
        thread.start()
        assert decoding.wait(30)
        newer = iter(frames)
        batches = [next(newer)]
        go_on.set()
        thread.join(30)
        assert not thread.is_alive()
        batches += newer
        assert not frames.damage
    assert sum(len(batch.frames) for batch in older) == 5
    assert sum(len(batch.frames) for batch in batches) == frames.n_frames == 48


def test_a_reader_can_be_read_again(plain, video_tools):
    with open_video(plain, Preprocessing(fps=2.0)) as frames:
        first = next(iter(frames))
        again, _ = video_tools.gather(frames)
    assert np.array_equal(first.frames, again)


def test_a_closed_reader_stops(plain):
    frames = open_video(plain, Preprocessing(fps=24.0), batch_size=1)
    batches = iter(frames)
    next(batches)
    frames.close()
    assert list(batches) == []


def test_explicit_times(plain, video_tools):
    assert video_tools.sampled_numbers(plain, 1.0, times=[0, 0.5, 0.5, 0.76, 99]) == [0, 12, 12, 18, 47]


def test_a_scanned_movie_is_read_without_scanning_it_again(plain, video_tools, monkeypatch):
    movie = scan(plain)
    monkeypatch.setattr(reader, "scan", lambda path: pytest.fail("the movie was scanned again"))
    for clip, numbers in ((None, [0, 12, 24, 36]), ((1.0, 2.0), [24, 36])):
        with open_video(movie, Preprocessing(fps=2.0, height=64, width=128), clip=clip) as frames:
            assert frames.info == movie.info
            images, _ = video_tools.gather(frames)
        assert [video_tools.number_of(image) for image in images] == numbers


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_frames_are_resized(resize, plain, video_tools):
    with open_video(plain, Preprocessing(height=64, width=64, resize=resize)) as frames:
        (batch,) = frames
    drawn = video_tools.draw(0).astype(float)
    middle = drawn[:, 32:96] if resize == "crop" else drawn.reshape(64, 64, 2, 3).mean(2)
    assert np.abs(batch.frames[0] - middle).mean() < 6


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"video_decoder": "ffmpeg"},
        {"times": []},
        {"times": [1.0, 0.5]},
        {"times": [-1.0]},
        {"times": [float("nan")]},
    ],
)
def test_wrong_arguments(arguments, plain):
    (name,) = arguments
    with pytest.raises(ConfigError, match=f"^{name}="):
        open_video(plain, Preprocessing(), **arguments)


@pytest.fixture(autouse=True)
def forget_reports():
    reader._log_fallback.cache_clear()


def test_on_a_cpu_pyav_reads(plain, caplog):
    with caplog.at_level(logging.INFO), open_video(plain, Preprocessing()) as frames:
        assert (frames.name, frames.reason) == ("pyav", "the device is cpu")
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_fallback_on_a_gpu_is_warned_of_once_and_stays_visible(plain, caplog, monkeypatch):
    monkeypatch.setattr(dali, "installed", lambda: False)
    for _ in range(2):
        with open_video(plain, Preprocessing(), device=Device("cuda")) as frames:
            assert (frames.name, frames.reason) == ("pyav", "DALI is not installed (vis4mer[dali])")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_memory_does_not_grow_with_the_movie(tmp_path, video_tools):
    peaks = []
    for seconds in (4, 40):
        path = video_tools.encode(
            tmp_path / f"{seconds}.avi", codec="mjpeg", count=24 * seconds, pixel_format="yuvj420p"
        )
        tracemalloc.start()
        with open_video(path, Preprocessing(fps=12.0, height=64, width=64), batch_size=8) as frames:
            for batch in frames:
                del batch
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    frames_kept = (peaks[1] - peaks[0]) / (64 * 64 * 3)
    assert frames_kept < 25, "432 frames more were read; the packet index alone may grow"


def test_importing_loads_neither_torch_nor_dali():
    program = "import sys, vis4mer.video; sys.exit(bool({'torch', 'nvidia.dali'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
