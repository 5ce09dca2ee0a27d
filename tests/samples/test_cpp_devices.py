"""The C++ library on devices: names, absent GPUs, and a stand-in for the CUDA driver."""

from pathlib import Path

import pytest

from tests.samples.cpp_build import CppBuild
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.runtime.bundle import BundleWriter

pytestmark = pytest.mark.slow

DECODER = DecoderConfig(d_input=3, l_max=10, d_output=2, d_model=4, n_layers=1)
MODEL = ModelConfig(
    heads={
        "mood": HeadConfig(DECODER, labels=("a", "b")),
        "likes": HeadConfig(DecoderConfig(d_input=3, l_max=10, d_output=1, d_model=4, n_layers=1), "regression"),
    },
    encoder=EncoderConfig(name="tiny", tokens=2, features=3),
    preprocessing=Preprocessing(height=2, width=3),
    windows=WindowConfig(seconds=5.0),
)


def write(folder: Path, format: str) -> Path:
    with BundleWriter(folder) as writer:
        for graph in ("encoder", "mood", "likes"):
            writer.path(f"{graph}.graph").write_bytes(b"not a graph")
        return writer.commit(format=format, precision="fp32", model=MODEL).path


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:1000", "cuda:-1", "CPU"])
def test_other_names_of_devices_are_refused(cpp: CppBuild, tmp_path: Path, device: str) -> None:
    line = cpp.refusal("api", "load", write(tmp_path / "bundle", "torchscript"), device)
    assert line == f'ArgumentError: device="{device}": must be cpu, cuda or cuda:N'


def has_driver() -> bool:
    return Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
def test_a_gpu_that_is_absent_is_no_cpu(cpp: CppBuild, tmp_path: Path) -> None:
    line = cpp.refusal("api", "load", write(tmp_path / "bundle", "torchscript"), "cuda")
    assert line == ('DeviceError: device="cuda": this machine has no NVIDIA driver (libcuda.so.1); use the device cpu')


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
def test_tokens_stay_on_the_device(cpp: CppBuild, tmp_path: Path) -> None:
    done = cpp.run("on_fake_gpu", write(tmp_path / "bundle", "onnx"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("format", "device", "message"),
    [
        ("torchscript", "cuda:1", 'device="cuda:1": this machine has GPUs: 1; use cuda:0'),
        ("torchscript", "cuda:0", 'device="cuda:0": LibTorch finds GPUs: 0; use the device cpu'),
        ("pt2", "cuda:0", 'device="cuda:0": LibTorch finds GPUs: 0; use the device cpu'),
        ("onnx", "cuda:0", 'device="cuda:0": ONNX Runtime has no usable CUDA provider'),
    ],
)
def test_a_backend_without_gpu_does_not_fall_back(
    cpp: CppBuild, tmp_path: Path, format: str, device: str, message: str
) -> None:
    cpp.require(format)
    bundle = write(tmp_path / "bundle", format)
    line = cpp.refusal("api", "load", bundle, device, LD_LIBRARY_PATH=str(cpp.folder / "driver"))
    assert line.startswith(f"DeviceError: {message}")


def test_a_package_for_a_gpu_is_refused_on_the_cpu(cpp: CppBuild, tmp_path: Path) -> None:
    line = cpp.refusal("api", "load", write(tmp_path / "bundle", "trt-rtx"), "cpu")
    assert line.startswith('DeviceError: format="trt-rtx": this build runs ')
