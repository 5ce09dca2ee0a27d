"""Frames from the GPU reader to the logits, with stand-ins for driver, DALI and backend that count everything."""

import ctypes
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.devices.arrays import DeviceArray, on_host
from vis4mer.devices.device import Device
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.footage import Footage
from vis4mer.runtime.precision import ChosenPrecision
from vis4mer.video import dali, open_video
from vis4mer.video.movie import scan

from .device_code import compile_host_kernels, install
from .fake_dali import FakeDALI

GPU = Device("cuda")
TOKENS, FEATURES, WINDOW = 2, 3, 4


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiled = compile_host_kernels(tmp_path_factory.mktemp("pictures"))
    if compiled is None:
        pytest.skip("needs a C++ compiler")
    return compiled


@pytest.fixture
def gpu(driver: Any, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> FakeDALI:
    install(library, driver)
    driver.deferred = True
    fake = FakeDALI(driver)
    monkeypatch.setattr(dali, "installed", lambda: True)
    monkeypatch.setitem(sys.modules, "nvidia.dali", fake)  # type: ignore[arg-type]
    return fake


def host_view(array: DeviceArray) -> NDArray[Any]:
    memory = (ctypes.c_ubyte * array.nbytes).from_address(array.address)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


def mean_colours(driver: Any) -> Any:
    """A runner as those of ONNX Runtime and TensorRT are: it reads its batch in place, in the order of the stream."""

    def run(batch: Any) -> DeviceArray:
        assert isinstance(batch, DeviceArray), "frames came to the host"
        result = DeviceArray.empty((len(batch), TOKENS, FEATURES), np.dtype(np.float32), GPU)

        def work() -> None:
            driver.require(batch.address, batch.nbytes)
            driver.require(result.address, result.nbytes)
            host_view(result)[:] = host_view(batch).mean(axis=(1, 2))[:, np.newaxis] / 255

        driver.queue(work)
        return result

    return run


def mean_features(driver: Any) -> Any:
    def run(batch: Any) -> DeviceArray:
        result = DeviceArray.empty((len(batch), 3), np.dtype(np.float32), GPU)

        def work() -> None:
            driver.require(batch.address, batch.nbytes)
            host_view(result)[:] = host_view(batch).mean(axis=1)

        driver.queue(work)
        return result

    return run


def classifier(driver: Any, **runners: Any) -> Classifier:
    head = HeadConfig(DecoderConfig(FEATURES, l_max=WINDOW * TOKENS, d_output=3, d_model=4, n_layers=1))
    model = ModelConfig(
        heads={"colour": head},
        encoder=EncoderConfig("mean-colour", tokens=TOKENS, features=FEATURES),
        preprocessing=Preprocessing(fps=8.0, height=24, width=32),
        windows=WindowConfig(seconds=WINDOW / 8, stride=WINDOW / 8),
    )
    runners = {"encoder": mean_colours(driver), "colour": mean_features(driver), **runners}
    precision = ChosenPrecision("fp32", "")
    return Classifier(model, runners, source="", device=GPU, device_reason="", precision=precision)


def film(folder: Path, video_tools: Any, seconds: int) -> Path:
    path: Path = video_tools.encode(folder / f"{seconds}.mp4", count=24 * seconds, options=video_tools.x264())
    return path


def test_no_frame_crosses_to_the_host(gpu: FakeDALI, tmp_path: Path, video_tools: Any) -> None:
    driver, uploads = gpu.driver, []
    # One frame of the first movie of a format is compared with PyAV's, and none of the later ones.
    classifier(driver)(film(tmp_path, video_tools, 2), batch_size=WINDOW)
    for seconds in (4, 8):
        driver.copies.clear()
        driver.bytes.clear()
        prediction = classifier(driver)(film(tmp_path, video_tools, seconds), batch_size=WINDOW)
        assert (prediction.video_decoder, prediction.frames) == ("dali", 8 * seconds)
        windows = 2 * seconds
        # Logits of one head with three outputs, and two numbers for the notes on black and still films, read twice.
        assert driver.bytes["DtoH"] == windows * 3 * 4 + 2 * 2 * 4
        assert driver.copies.count("DtoH") == windows + 2
        uploads.append(driver.bytes["HtoD"])
    assert uploads[0] == uploads[1] < 32 * 24 * 3, "what is uploaded is a movie's weights, whatever its length"


def test_frames_on_the_host_may_follow_those_on_the_device(gpu: FakeDALI, tmp_path: Path, video_tools: Any) -> None:
    """After a failure, PyAV's frames are uploaded by the encoder's runner, and the prediction is the same."""
    path = film(tmp_path, video_tools, 4)
    driver, run = gpu.driver, mean_colours(gpu.driver)

    def encode(batch: Any) -> Any:
        return run(batch if isinstance(batch, DeviceArray) else DeviceArray.upload(batch, GPU))

    model = classifier(driver, encoder=encode)
    expected = model(path, batch_size=WINDOW)
    driver.bytes.clear()
    gpu.runs.clear()
    gpu.fail_at = 3
    found = model(path, batch_size=WINDOW)
    assert (found.video_decoder, found.frames, found.notes) == ("pyav", 32, ())
    assert "out of memory" in found.video_decoder_reason
    assert driver.bytes["HtoD"] > 10 * 24 * 32 * 3
    for old, new in zip(expected.heads["colour"].windows, found.heads["colour"].windows, strict=True):
        np.testing.assert_allclose(old.probabilities, new.probabilities, atol=0.01)


def test_batches_allocate_nothing_and_wait_for_logits_alone(gpu: FakeDALI, tmp_path: Path, video_tools: Any) -> None:
    driver, stages = gpu.driver, classifier(gpu.driver).stages
    path = film(tmp_path, video_tools, 4)

    def read() -> int:
        with open_video(path, stages.model.preprocessing, device=GPU, batch_size=WINDOW) as reader:
            tokens = map(stages.encode, Footage().watch(reader))
            driver.calls.clear()
            return len([stages.run_heads([window]) for window in stages.cut_windows(tokens)])

    read()  # fills the pool
    driver.run_queued()
    before = driver.allocations
    assert read() == 8
    assert driver.allocations == before
    assert driver.calls["cuMemAllocAsync"] > 3 * 8
    assert driver.calls["cuStreamSynchronize"] == 8


def test_black_and_still_films_are_noted(gpu: FakeDALI, tmp_path: Path, video_tools: Any) -> None:
    def notes(colours: list[int]) -> tuple[str, ...]:
        path = tmp_path / "film.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width, stream.height = 64, 48
            for colour in colours:
                picture = np.full((48, 64, 3), colour, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        return classifier(gpu.driver)(path, batch_size=3).notes

    assert notes([2] * 8) == ("every frame is black",)
    assert notes([100] * 8) == ("the picture does not change",)
    assert notes([100] * 7 + [130]) == ()
    footage = Footage()
    footage.add(DeviceArray.upload(np.full((2, 4, 4, 3), 90, np.uint8), GPU))
    footage.add(np.full((2, 4, 4, 3), 91, np.uint8))  # after the GPU has given up
    assert footage.still
    footage.add(np.full((2, 4, 4, 3), 110, np.uint8))
    assert not footage.still


def test_memory_is_bounded(gpu: FakeDALI, tmp_path: Path, video_tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path, video_tools, 4)
    picture = video_tools.WIDTH * video_tools.HEIGHT * 3
    frames = []
    for most in (2 << 30, 20 * picture, picture):
        monkeypatch.setattr(dali, "_MOST_BYTES", most)
        gpu.runs.clear()
        gpu.held = 0
        with open_video(path, Preprocessing(fps=4.0, height=24, width=32), device=GPU, batch_size=8) as reader:
            frames.append(np.concatenate([on_host(batch.frames) for batch in reader]))
        # A single clip with a single frame is decoded, whatever it takes.
        assert gpu.held <= max(most, 9 * picture)
        np.testing.assert_array_equal(frames[0], frames[-1])
    assert gpu.runs == [[1]] * 16


MATRICES = {"undeclared": 2, "bt709": 1, "bt2020": 9, "bt601": 6}


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_are_those_of_pyav(
    gpu: FakeDALI, codec: str, matrix: str, pixel_format: str, tmp_path: Any, video_tools: Any
) -> None:
    path = tmp_path / "movie.mkv"

    def prepare(stream: Any) -> None:
        stream.codec_context.color_range = 2 if pixel_format == "yuvj420p" else 1
        stream.codec_context.colorspace = MATRICES[matrix]

    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    video_tools.encode(
        path, codec=codec, options=options, count=12, size=(256, 192), pixel_format=pixel_format, prepare=prepare
    )
    movie = scan(path)
    assert movie.full_range == movie.range_is_coded == (pixel_format == "yuvj420p")
    preprocessing = Preprocessing(fps=12.0, height=48, width=64)
    results = []
    for decoder in ("dali", "pyav"):
        with open_video(path, preprocessing, video_decoder=decoder, device=GPU, batch_size=4) as reader:  # type: ignore[arg-type]
            batches = [(batch.frames, batch.pts_seconds) for batch in reader]
            assert all(isinstance(frames, DeviceArray) == (decoder == "dali") for frames, _ in batches)
            frames = [f.numpy() if isinstance(f, DeviceArray) else f for f, _ in batches]
            results.append((np.concatenate(frames), np.concatenate([seconds for _, seconds in batches])))
    (found, times), (expected, expected_times) = results
    np.testing.assert_array_equal(times, expected_times)
    difference = np.abs(found.astype(int) - expected)
    # Undeclared and BT.601 colours need no correction: there DALI places chroma samples otherwise than PyAV. Saturated
    # colours, of which these pictures have many, differ most after a correction.
    assert difference.mean() <= (0.45 if matrix in ("undeclared", "bt601") else 0.65)
    assert difference.max() <= 8
