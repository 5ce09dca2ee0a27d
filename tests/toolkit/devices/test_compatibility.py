import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vis4mer.devices import compatibility
from vis4mer.devices.compatibility import Cudnn, GpuPackage, driver_release, find_cudnn, gpu_packages, problems
from vis4mer.devices.device import Driver
from vis4mer.packages import install_command

TORCH = GpuPackage("torch", "2.15.0", "13.0")
ONNXRUNTIME = GpuPackage("onnxruntime-gpu", "1.31.1", "13.0")
DALI = GpuPackage("nvidia-dali-cuda120", "2.4.0", "12.0")
CUDNN = Cudnn("9.24.0", "13.3", "/site/nvidia/cudnn/lib/libcudnn.so.9")


def driver(cuda: str | None) -> Driver:
    return Driver(cuda, ("a GPU",) if cuda else (), "" if cuda else "there is no NVIDIA driver")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds all installed packages; empty at first."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def install(site: Path, name: str, version: str, requires: str = "", **files: str) -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {requires}"] if requires else []
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    for file, text in files.items():
        path = site / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text)


TORCH_VERSION = (
    "from typing import Optional\n__version__ = '{}'\ndebug = False\ncuda: Optional[str] = {}\nhip: int = 1\n"
)
ORT_BUILD = "package_name = 'onnxruntime-gpu'\n__version__ = '1.31.1'\ncuda_version = '13.0'\n"


def test_every_package_states_its_cuda_without_being_imported(site: Path) -> None:
    install(site, "torch", "2.15.0", torch__version=TORCH_VERSION.format("2.15.0+cu130", "'13.0'"))
    install(site, "onnxruntime-gpu", "1.31.1", onnxruntime__capi__build_and_package_info=ORT_BUILD)
    install(site, "nvidia-dali-cuda120", "2.4.0")
    install(site, "tensorrt", "11.4.0", requires="tensorrt_cu13==11.4.0")
    install(site, "tensorrt_rtx", "1.7.1", requires="tensorrt_rtx_cu12==1.7.1")
    assert gpu_packages() == [
        TORCH,
        ONNXRUNTIME,
        DALI,
        GpuPackage("tensorrt", "11.4.0", "13.0"),
        GpuPackage("tensorrt-rtx", "1.7.1", "12.0"),
    ]


def test_a_build_for_the_cpu_states_none(site: Path) -> None:
    install(site, "torch", "2.15.0+cpu", torch__version=TORCH_VERSION.format("2.15.0+cpu", "None"))
    assert gpu_packages() == [GpuPackage("torch", "2.15.0+cpu", None)]


def test_a_machine_without_packages(site: Path) -> None:
    assert gpu_packages() == []


def test_the_installed_packages_are_recognised() -> None:
    pytest.importorskip("torch")
    import torch

    found = {package.name: package for package in gpu_packages()}
    assert found["torch"].cuda == torch.version.cuda


@pytest.mark.parametrize(
    ("release", "runs"), [("535.104.05", "driver 535.104.05 runs CUDA 12.2"), ("", "the driver runs CUDA 12.2")]
)
def test_a_driver_that_is_too_old_is_named_with_the_one_to_install(release: str, runs: str) -> None:
    found = list(problems(driver("12.2"), [TORCH, ONNXRUNTIME, DALI], CUDNN, release))
    assert found == [
        f"{runs}, and torch 2.15.0 needs 13.0: install NVIDIA driver 580 or newer",
        f"{runs}, and onnxruntime-gpu 1.31.1 needs 13.0: install NVIDIA driver 580 or newer",
    ]


def test_a_driver_runs_other_minor_and_older_versions() -> None:
    packages = [TORCH._replace(cuda="13.2"), ONNXRUNTIME, DALI]
    assert list(problems(driver("13.0"), packages, CUDNN)) == []
    assert list(problems(driver("14.1"), packages, CUDNN)) == []


def test_a_version_that_this_package_has_no_release_for() -> None:
    (found,) = problems(driver("13.0"), [TORCH._replace(cuda="15.1"), ONNXRUNTIME], CUDNN)
    assert found == "the driver runs CUDA 13.0, and torch 2.15.0 needs 15.1: install an NVIDIA driver for CUDA 15.1"


def test_a_build_without_cuda_is_a_problem_where_there_is_a_driver() -> None:
    packages = [TORCH._replace(version="2.15.0+cpu", cuda=None), ONNXRUNTIME._replace(cuda=None)]
    assert list(problems(driver("13.0"), packages, None)) == [
        "torch 2.15.0+cpu is built without CUDA: install its build for CUDA",
        "onnxruntime-gpu 1.31.1 is built without CUDA: install its build for CUDA",
    ]


def test_cudnn_is_missing_or_another_one() -> None:
    (missing,) = problems(driver("13.0"), [ONNXRUNTIME], None)
    assert missing == f"onnxruntime-gpu 1.31.1 finds no cuDNN 9: {install_command('cuda')}"
    (other,) = problems(driver("13.0"), [ONNXRUNTIME], Cudnn("9.5.1", "12.6", "/usr/lib/libcudnn.so.9"))
    assert other == (
        "cuDNN 9.5.1 (/usr/lib/libcudnn.so.9) is built for CUDA 12.6, not 13.0: "
        "pip uninstall nvidia-cudnn-cu12 and pip install --force-reinstall nvidia-cudnn-cu13"
    )
    (absent,) = problems(driver("13.0"), [TORCH], CUDNN)
    assert absent == f"onnxruntime-gpu is not installed: {install_command('cuda')}"


def test_without_a_driver_nothing_is_a_problem() -> None:
    assert list(problems(driver(None), [TORCH._replace(cuda=None)], None)) == []


def fake_library(version: int, cuda: int) -> Any:
    def function(value: int) -> Any:
        def call() -> int:
            assert call.restype is ctypes.c_size_t  # type: ignore[attr-defined]
            return value

        return call

    return SimpleNamespace(cudnnGetVersion=function(version), cudnnGetCudartVersion=function(cuda))


@pytest.mark.parametrize("packaged", [True, False])
def test_the_packaged_cudnn_comes_before_the_systems(
    site: Path, monkeypatch: pytest.MonkeyPatch, packaged: bool
) -> None:
    install(site, "onnxruntime-gpu", "1.31.1")
    path = str(site / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9")

    def load(name: str) -> Any:
        if name == path and not packaged:
            raise OSError(name)
        return fake_library(92400, 13030) if name == path else fake_library(90501, 12060)

    monkeypatch.setattr(compatibility.ctypes, "CDLL", load)
    expected = Cudnn("9.24.0", "13.3", path) if packaged else Cudnn("9.5.1", "12.6", "libcudnn.so.9")
    assert find_cudnn() == expected


def test_there_may_be_no_cudnn(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(compatibility.ctypes, "CDLL", load)
    assert find_cudnn() is None


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
            "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n",
            "535.104.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65  Release Build  (builder)\nGCC version:\n",
            "580.65",
        ),
        ("unreadable", ""),
        (None, ""),
    ],
)
def test_the_kernel_states_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, release: str
) -> None:
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(compatibility, "_PROC_VERSION", path)
    assert driver_release() == release
