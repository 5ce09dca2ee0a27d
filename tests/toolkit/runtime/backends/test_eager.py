import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.devices.arrays import DeviceArray
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, CheckpointError, DeviceError, MissingDependencyError
from vis4mer.packages import install_command
from vis4mer.runtime.backends.eager import EagerRunner

torch = pytest.importorskip("torch")


def test_a_checkpoint_classifies_a_movie_as_its_modules_would(checkpoint: Path, movie: Path) -> None:
    from vis4mer.models.checkpoint import load_checkpoint
    from vis4mer.video.reader import open_video

    model = load_checkpoint(checkpoint)
    with open_video(movie, model.config.preprocessing) as reader:
        frames = torch.from_numpy(np.concatenate([batch.frames for batch in reader]))
    with torch.inference_mode():
        tokens = model.encode(frames)
        windows = torch.stack([tokens[start : start + 4].flatten(0, 1) for start in (0, 3, 6, 8)])
        scene = model(windows, "scene").softmax(-1)
        likes = model(windows, "likes")[:, 0]

    prediction = vis4mer.load(checkpoint, device="cpu", precision="fp32")(movie, batch_size=5)
    got = np.array([window.probabilities for window in prediction.windows])
    np.testing.assert_allclose(got, scene.numpy(), atol=1e-5)
    np.testing.assert_allclose(list(prediction.probabilities.values()), scene.mean(0).numpy(), atol=1e-5)
    assert prediction.label == ("in", "out", "on")[int(scene.sum(0).argmax())]
    assert prediction.heads["likes"].value == pytest.approx(float(likes.mean()), abs=1e-5)
    assert (prediction.bundle, prediction.device) == (str(checkpoint), "cpu")


@pytest.mark.parametrize("graph", ["encoder", "scene"])
def test_a_batch_that_a_checkpoint_does_not_take_is_a_one_line_error(checkpoint: Path, graph: str) -> None:
    runners = vis4mer.load(checkpoint, device="cpu", precision="fp32").stages.runners
    with pytest.raises(BundleError, match=rf"^graph='{graph}': takes .*, not float32\[2, 5\]"):
        runners[graph](np.zeros((2, 5), np.float32))


def test_a_model_of_samples_of_the_whole_movie_is_not_served(tmp_path: Path) -> None:
    from vis4mer.models.vis4mer import Vis4mer

    head = HeadConfig(DecoderConfig(64, 68, 2, d_model=16, n_layers=2))
    encoder = EncoderConfig("test_vit", 17, 64)
    config = ModelConfig({"scene": head}, encoder, Preprocessing(height=64, width=64), WindowConfig(samples=4))
    Vis4mer(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"takes 4 samples of a whole movie.* evaluate it with 'vis4mer eval'"):
        vis4mer.load(tmp_path)


def test_bf16_rounds_the_encoder_only(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    in_fp32, in_bf16 = (vis4mer.load(checkpoint, device="cpu", precision=p).stages.runners for p in ("fp32", "bf16"))
    exact, rounded = (runners["encoder"](frames) for runners in (in_fp32, in_bf16))
    assert exact.dtype == rounded.dtype == np.float32
    error = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert 1e-4 < error < 2e-2
    features = np.concatenate([exact, exact[:1]]).reshape(1, -1, exact.shape[-1])
    np.testing.assert_array_equal(in_fp32["scene"](features), in_bf16["scene"](features))


@pytest.mark.parametrize(("units", "expected"), [(None, "fp32"), ("amx_bf16", "bf16")])
def test_auto_reports_the_precision_and_its_reason(
    checkpoint: Path, movie: Path, monkeypatch: pytest.MonkeyPatch, units: str | None, expected: str
) -> None:
    monkeypatch.setattr("vis4mer.runtime.precision.bf16_units", lambda device: units)
    values = vis4mer.load(checkpoint, device="cpu")(movie).to_dict()
    assert values["precision"] == expected
    assert "faster in" in values["precision_reason"]


def test_without_pytorch_the_error_names_the_extra(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vis4mer.models.checkpoint", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("torch"))):
        vis4mer.load(checkpoint, device="cpu")


class FakeTorchGpu:
    """PyTorch on the stand-in driver: tensors of the GPU are views of its memory, which is the host's.

    Attributes:
        active: Handles of the streams that are current, innermost last.
        precisions: Precision of convolutions at each run of the module.
        waited: Handles of the streams that the device's stream has waited for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, driver: Any) -> None:
        self.active: list[int] = []
        self.precisions: list[str] = []
        self.waited: list[int] = []
        as_tensor = torch.as_tensor

        @contextmanager
        def stream(entered: SimpleNamespace) -> Iterator[None]:
            self.active.append(entered.handle)
            yield
            self.active.pop()

        def from_gpu(array: Any, device: str) -> Any:
            assert (device, self.active) == ("cuda:0", [7]), "the work has to be on the device's stream"
            assert array.__cuda_array_interface__["strides"] is None
            driver.run_queued(len(driver._queue))  # the module below runs at once
            memory = (ctypes.c_ubyte * array.nbytes).from_address(array.address)
            return as_tensor(np.frombuffer(memory, array.dtype).reshape(array.shape).copy())

        def to_gpu(tensor: Any, device: Device) -> Any:
            return DeviceArray.upload(tensor.numpy(), device)

        monkeypatch.setattr(torch, "as_tensor", from_gpu)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "ExternalStream", lambda h, device: SimpleNamespace(handle=h, device=device))
        monkeypatch.setattr(DeviceArray, "from_interface", to_gpu)
        monkeypatch.setattr("vis4mer.devices.cuda.CudaStream.wait_for", lambda _, handle: self.waited.append(handle))

    def double(self, batch: Any) -> Any:
        """The module: twice its input, in bfloat16 and with strides, as autocast and views may leave it."""
        self.precisions.append(torch.backends.cudnn.conv.fp32_precision)
        return (batch * 2).to(torch.bfloat16).t().contiguous().t()


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_gpu_runs_on_the_devices_stream_in_float32_and_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, driver: Any, where: str
) -> None:
    gpu, before = FakeTorchGpu(monkeypatch, driver), torch.backends.cudnn.conv.fp32_precision
    runner = EagerRunner(gpu.double, "scene", Device("cuda"))
    assert gpu.waited == [1], "weights may still be on their way on the default stream"
    values = np.arange(12, dtype=np.float32).reshape(4, 3)[::2]
    batch = DeviceArray.upload(values, Device("cuda")) if where == "device" else values
    result = runner(batch)
    assert driver.calls["cuStreamSynchronize"] == 0
    assert isinstance(result, DeviceArray)
    np.testing.assert_array_equal(result.numpy(), 2 * values)
    assert result.dtype == np.float32
    assert (gpu.precisions, gpu.active) == (["ieee"], [])
    assert torch.backends.cudnn.conv.fp32_precision == before


@pytest.mark.parametrize(
    ("rows", "message", "expected"),
    [
        (4, "CUDA out of memory. Tried to allocate 1.44 GiB.", "try a smaller --batch-size"),
        (1, "CUDA out of memory. Tried to allocate 1.44 GiB.", "free memory on the device, or use a smaller model"),
        (4, "mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)", ""),
    ],
)
@pytest.mark.parametrize("traceback", ["", "The following operation failed in the TorchScript interpreter.\n  File\n"])
def test_a_failing_module_is_one_line_with_the_remedy(rows: int, message: str, expected: str, traceback: str) -> None:
    def fail(batch: Any) -> Any:
        raise RuntimeError(f"{traceback}RuntimeError: {message}" if traceback else message)

    with pytest.raises(DeviceError) as error:
        EagerRunner(fail, "scene", Device("cpu"))(np.zeros((rows, 3), np.float32))
    end = f"; {expected}" if expected else ""
    assert str(error.value) == f"device='cpu': scene failed on a batch of shape ({rows}, 3): {message}{end}"
