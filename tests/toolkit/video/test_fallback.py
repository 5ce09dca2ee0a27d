"""PyAV goes on where DALI fails: no frame is lost or repeated, and the reason is stated."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vis4mer.config import Preprocessing
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import DeviceError, VideoError
from vis4mer.video import dali, fallback, open_video
from vis4mer.video.fallback import FallbackReader
from vis4mer.video.movie import scan
from vis4mer.video.pyav import PyAVReader

PREPROCESSING = Preprocessing(fps=6.0, height=16, width=24)
FRAMES = 12  # two seconds


@pytest.fixture(autouse=True)
def forget_movies():
    fallback._log_replacement.cache_clear()
    fallback._compared.clear()


def failing(after, error=None):
    """A DALI reader that decodes with PyAV, and fails after some sampled frames."""

    class FailingReader(PyAVReader):
        name = "dali"

        def __init__(self, movie, preprocessing, *, device, **arguments):
            super().__init__(movie, preprocessing, **arguments)

        def _decode(self, damage):
            # DALI yields nothing but sampled frames.
            sampled = (frame for frame in super()._decode(damage) if frame.number in self._numbers)
            for count, frame in enumerate(sampled):
                if count == after:
                    raise error or dali.DALIError.because("out of memory", self.info.path)
                yield frame

    return FailingReader


@pytest.fixture
def open_auto(monkeypatch, plain):
    def open_with(reader, **arguments):
        monkeypatch.setattr(dali, "installed", lambda: True)
        monkeypatch.setattr(dali, "obstacle", lambda movie, device: None)
        monkeypatch.setattr(dali, "DALIReader", reader)
        return open_video(plain, PREPROCESSING, device=Device("cuda"), **arguments)

    return open_with


@pytest.mark.parametrize("batch_size", [1, 3, 5, 32])
@pytest.mark.parametrize("after", range(FRAMES))
def test_the_frames_are_those_of_pyav_wherever_dali_fails(after, batch_size, open_auto, plain, video_tools):
    with open_video(plain, PREPROCESSING, video_decoder="pyav", batch_size=batch_size) as reader:
        expected, seconds = video_tools.gather(reader)
    with open_auto(failing(after), batch_size=batch_size) as reader:
        assert (reader.name, reader.n_frames) == ("dali", FRAMES)
        for _ in range(2):  # the second iteration does not try DALI again
            frames, times = video_tools.gather(reader)
            assert np.array_equal(frames, expected)
            assert np.array_equal(times, seconds)
            assert reader.n_frames == FRAMES
            assert not reader.damage
        assert reader.name == "pyav"
        read = after // batch_size * batch_size
        assert reader.reason == f"DALI failed after {read} of {FRAMES} frames, PyAV read the others: out of memory"


def test_batches_stay_within_their_size(open_auto):
    with open_auto(failing(7), batch_size=3) as reader:
        assert [len(batch.pts_seconds) for batch in reader] == [3, 3, 2, 3, 1]


def test_without_a_failure_dali_reads_everything(open_auto, video_tools):
    with open_auto(failing(None)) as reader:
        frames, _ = video_tools.gather(reader)
        assert len(frames) == FRAMES
        assert reader.name == "dali"
        assert reader.reason.startswith("DALI decodes h264 on cuda:0")


def test_the_reason_is_logged_once(open_auto, video_tools, caplog):
    for _ in range(2):
        with open_auto(failing(4)) as reader:
            video_tools.gather(reader)
    assert [(record.levelname, "out of memory" in record.message) for record in caplog.records] == [("WARNING", True)]


def test_a_failure_of_the_device_counts_as_well(open_auto, video_tools):
    with open_auto(failing(4, DeviceError("device='cuda:0': cuMemAlloc failed")), batch_size=2) as reader:
        frames, _ = video_tools.gather(reader)
        assert len(frames) == FRAMES
        assert reader.reason.endswith("device='cuda:0': cuMemAlloc failed")


def test_an_error_of_this_package_is_not_hidden(open_auto, video_tools):
    with open_auto(failing(4, AssertionError("a defect"))) as reader, pytest.raises(AssertionError, match="a defect"):
        video_tools.gather(reader)


def test_an_explicit_dali_fails_with_a_remedy(open_auto, video_tools):
    with (
        open_auto(failing(4), video_decoder="dali") as reader,
        pytest.raises(VideoError, match=r"DALI cannot decode it \(out of memory\); read it with video_decoder='pyav'$"),
    ):
        video_tools.gather(reader)


def test_frames_that_pyav_misses_are_replaced_as_pyav_does_alone(open_auto, plain, monkeypatch, video_tools):
    """The frame in place of a missing one is the frame before, which DALI has read."""
    decode = PyAVReader._decode

    def without_some(self, damage):
        for frame in decode(self, damage):
            if frame.number not in (24, 28):
                yield frame

    with monkeypatch.context() as patch:
        patch.setattr(PyAVReader, "_decode", without_some)
        with open_video(plain, PREPROCESSING, video_decoder="pyav", batch_size=2) as reader:
            expected, seconds = video_tools.gather(reader)
        assert reader.damage.missing_frames == 2
        with open_auto(failing(6), batch_size=2) as reader:
            frames, times = video_tools.gather(reader)
            assert reader.damage.missing_frames == 2
    assert np.array_equal(frames, expected)
    assert np.array_equal(times, seconds)


def test_a_reader_that_was_closed_does_not_go_on_with_pyav(open_auto):
    """Another thread closes it while DALI is about to fail."""
    decoding, go_on = threading.Event(), threading.Event()
    reader_type = failing(None)

    class HeldUp(reader_type):
        def _decode(self, damage):
            yield next(super()._decode(damage))
            decoding.set()
            assert go_on.wait(30)
            raise dali.DALIError.because("late", self.info.path)

    reader, batches = open_auto(HeldUp, batch_size=1), []
    thread = threading.Thread(target=lambda: batches.extend(reader))
    thread.start()
    assert decoding.wait(30)
    reader.close()
    go_on.set()
    thread.join(30)
    assert not thread.is_alive()
    assert len(batches) == 1
    assert reader.name == "dali"


def blurred(number_of_wrong_frames):
    """A DALI reader whose last frames are undefined, which DALI does not report."""

    class BlurredReader(failing(None)):
        def __iter__(self):
            for batch in super().__iter__():
                batch.frames[len(batch.frames) - number_of_wrong_frames :] = 0
                yield batch

    return BlurredReader


@pytest.mark.parametrize("batch_size", [3, 32])
def test_undefined_frames_are_noticed(batch_size, open_auto, plain, video_tools):
    with open_video(plain, PREPROCESSING, video_decoder="pyav") as reader:
        expected, _ = video_tools.gather(reader)
    with open_auto(blurred(1), batch_size=batch_size) as reader:
        frames, _ = video_tools.gather(reader)
        assert np.array_equal(frames, expected)
        assert reader.name == "pyav"
        assert "failed after 0 of 12 frames" in reader.reason
        assert "differ from PyAV's by" in reader.reason


def test_one_movie_of_each_format_is_compared(open_auto, video_tools, monkeypatch):
    opened = []
    init = PyAVReader.__init__
    monkeypatch.setattr(PyAVReader, "__init__", lambda self, *a, **k: opened.append(self.name) or init(self, *a, **k))
    for _ in range(3):
        with open_auto(failing(None), batch_size=2) as reader:
            video_tools.gather(reader)
            assert reader.name == "dali"
    assert opened == ["dali", "pyav", "dali", "dali"]


def test_a_frame_that_pyav_does_not_read_is_not_compared(open_auto, video_tools, monkeypatch):
    def rejected(self, damage):
        raise VideoError("not readable")
        yield

    reader_type = failing(None)
    decode = PyAVReader._decode
    reader_type._decode = lambda self, damage: decode(self, damage)
    monkeypatch.setattr(PyAVReader, "_decode", rejected)
    with open_auto(reader_type) as reader:
        assert len(video_tools.gather(reader)[0]) == FRAMES
        assert reader.name == "dali"


class Pipeline:
    """DALI's pipeline, which fails in one of its runs."""

    def __init__(self, pipeline, failing_run, failure):
        self._pipeline, self._failing_run, self._failure, self.runs = pipeline, failing_run, failure, 0

    def feed_input(self, *arguments):
        self._pipeline.feed_input(*arguments)

    def run(self, *arguments):
        self.runs += 1
        if self.runs == self._failing_run:
            return self._failure(self._pipeline)
        return self._pipeline.run(*arguments)


def no_memory(pipeline):
    raise RuntimeError("Critical error in pipeline:\nstack\nCUDA allocation failed")


def no_text(pipeline):
    raise MemoryError


def one_frame_less(pipeline):
    (sequences,) = pipeline.run()
    return (Shortened(sequences),)


class Shortened:
    """DALI's output without the last frame of its first clip."""

    def __init__(self, sequences):
        self._sequences = sequences

    def __len__(self):
        return len(self._sequences)

    def __getitem__(self, i):
        n_frames, *size = self._sequences[i].shape()
        return SimpleNamespace(shape=lambda: [n_frames - (i == 0), *size])


@pytest.mark.skipif(not dali.installed(), reason="nvidia-dali-cuda120 is not installed")
@pytest.mark.parametrize(
    ("failure", "reason"),
    [(no_memory, "CUDA allocation failed"), (no_text, "MemoryError"), (one_frame_less, "fewer or more frames")],
)
@pytest.mark.parametrize("failing_run", [1, 2, 3, 4, 5])
def test_whichever_run_of_dali_fails(failing_run, failure, reason, vp9, video_tools):
    movie = scan(vp9)
    arguments = {"batch_size": 3}
    reader = dali.DALIReader(movie, PREPROCESSING, device=CPU, reason="DALI", **arguments)
    pipeline = reader._pipeline = Pipeline(reader._pipeline, failing_run, failure)
    both = FallbackReader(reader, lambda why: PyAVReader(movie, PREPROCESSING, reason=why, **arguments))
    expected, seconds = video_tools.gather(PyAVReader(movie, PREPROCESSING, reason="", **arguments))
    frames, times = video_tools.gather(both)
    assert np.array_equal(times, seconds)
    assert np.abs(frames.astype(int) - expected).mean() <= 2
    if failing_run <= pipeline.runs - (both.name == "dali"):
        n_read = int(both.reason.split()[3])
        assert n_read < FRAMES
        assert np.array_equal(frames[n_read:], expected[n_read:])
        assert reason in both.reason
    else:
        assert both.name == "dali"
    with pytest.raises(VideoError, match=r"; read it with video_decoder='pyav'$") as error:
        pipeline.runs = failing_run - 1
        video_tools.gather(reader)
    assert reason in str(error.value)
