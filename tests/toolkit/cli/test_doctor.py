import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

import vis4mer
from vis4mer.cli.main import main
from vis4mer.devices.compatibility import Cudnn, GpuPackage
from vis4mer.devices.device import Driver
from vis4mer.errors import BundleError, OpsError
from vis4mer.packages import install_command
from vis4mer_kernels.library import Library


@pytest.fixture
def without_gpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vis4mer.devices.device.probe_driver", lambda: Driver("13.0", (), "the driver offers no GPU"))
    monkeypatch.setattr("vis4mer.devices.device.bf16_units", lambda device: None)
    monkeypatch.setattr("vis4mer.runtime.loading.sample_bundle", lambda: tiny_bundle)


@pytest.mark.usefixtures("without_gpu")
def test_json_describes_this_machine() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0
    findings = json.loads(result.stdout)
    assert findings["vis4mer"] == vis4mer.__version__
    assert findings["python"] == platform.python_version()
    assert findings["cores"] == len(os.sched_getaffinity(0))
    assert "CPUExecutionProvider" in findings["onnxruntime_providers"]
    versions = {package["name"]: package["version"] for package in findings["packages"]}
    assert versions["numpy"] == metadata.version("numpy")
    extras = {package["name"]: package["extra"] for package in findings["packages"]}
    assert (extras["numpy"], extras["torch"], extras["onnx"]) == (None, "torch", "export")
    assert (findings["cuda_driver"], findings["gpus"]) == ("13.0", [])
    assert (findings["device_auto"], findings["device_reason"]) == ("cpu", "the driver offers no GPU")
    assert (findings["precision_auto"], findings["precision_reason"]) == ("fp32", "cpu is not faster in bf16")
    assert (findings["video_decoder_auto"], findings["video_decoder_reason"]) == ("pyav", "the device is cpu")


@pytest.mark.usefixtures("without_gpu")
def test_libraries_are_compared_with_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = Cudnn("9.24.0", "13.3", "/libcudnn.so.9")
    module = "vis4mer.devices.compatibility"
    monkeypatch.setattr("vis4mer.devices.device.probe_driver", lambda: Driver("12.2", (), "in use by another"))
    packages = [GpuPackage("torch", "2.15.0", "13.0"), GpuPackage("onnxruntime-gpu", "1.31.1", "13.0")]
    monkeypatch.setattr(f"{module}.gpu_packages", lambda: packages)
    monkeypatch.setattr(f"{module}.find_cudnn", lambda: cudnn)
    monkeypatch.setattr(f"{module}.driver_release", lambda: "535.104.05")
    findings = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert findings["driver_release"] == "535.104.05"
    assert findings["gpu_packages"][0] == {"name": "torch", "version": "2.15.0", "cuda": "13.0"}
    assert findings["cudnn"] == {"version": "9.24.0", "cuda": "13.3", "path": "/libcudnn.so.9"}
    needs = "driver 535.104.05 runs CUDA 12.2, and {} needs 13.0: install NVIDIA driver 580 or newer"
    expected = [needs.format("torch 2.15.0"), needs.format("onnxruntime-gpu 1.31.1")]
    assert findings["cuda_problems"] == expected

    lines = [line.split(maxsplit=2) for line in CliRunner().invoke(main, ["doctor"]).stdout.splitlines()]
    assert [line[2] for line in lines if line[:2] == ["cuda", "problems"]] == expected
    assert ["gpu", "packages", "torch 2.15.0 for CUDA 13.0, onnxruntime-gpu 1.31.1 for CUDA 13.0"] in lines
    assert ["cudnn", "9.24.0", "for CUDA 13.3 /libcudnn.so.9"] in lines


@pytest.mark.usefixtures("without_gpu")
def test_a_machine_without_a_driver_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vis4mer.devices.device.probe_driver", lambda: Driver(None, (), "there is no NVIDIA driver"))
    monkeypatch.setattr("vis4mer.devices.compatibility.find_cudnn", lambda: None)
    findings = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert (findings["cudnn"], findings["cuda_problems"]) == (None, [])
    lines = [line.split() for line in CliRunner().invoke(main, ["doctor"]).stdout.splitlines()]
    assert ["cudnn", "none"] in lines
    assert ["cuda", "problems", "none"] in lines


@pytest.mark.usefixtures("without_gpu")
def test_native_ops_are_listed_or_the_reason_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Library:
        raise OpsError("library='x.so': does not load")

    for found, expected in (
        (lambda: Library(("cpu", "cuda"), "/x.so"), "cpu, cuda: /x.so"),
        (lambda: Library((), "not built"), "none: not built"),
        (broken, "none: library='x.so': does not load"),
    ):
        monkeypatch.setattr("vis4mer_kernels.library.library", found)
        assert json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)["native_ops"] == expected


@pytest.mark.usefixtures("without_gpu")
def test_an_absent_package_is_shown_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr("vis4mer.packages.requirements", lambda: {"": ["numpy"], "torch": ["torch"]})
    lines = CliRunner().invoke(main, ["doctor"]).stdout.splitlines()
    assert any(line.split(maxsplit=1) == ["torch", f"absent: {install_command('torch')}"] for line in lines)
    assert any(line.split() == ["numpy", "1.2.3"] for line in lines)


def test_a_broken_installation_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Path:
        raise BundleError("bundle=None: is not installed")

    monkeypatch.setattr("vis4mer.runtime.loading.sample_bundle", broken)
    findings = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert (findings["device_auto"], findings["device_reason"]) == (None, "bundle=None: is not installed")


def test_findings_are_printed_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lines need none of the slow parts: here, the driver cannot even be asked."""

    def fail() -> Driver:
        raise BundleError("the driver")

    monkeypatch.setattr("vis4mer.devices.device.probe_driver", fail)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["vis4mer", "python", "system", "cores"]


@pytest.mark.usefixtures("without_gpu")
def test_lines_wrap_at_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = CliRunner().invoke(main, ["doctor"]).stdout
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("vis4mer.cli.rows.is_terminal", lambda stream: True)
    shown = CliRunner().invoke(main, ["doctor"]).stdout
    assert shown.split() == piped.split()
    assert [line for line in shown.splitlines() if len(line) > 60 and len(line.split()) > 1] == []


@pytest.mark.usefixtures("without_gpu")
def test_nothing_foreign_reaches_stderr(tmp_path: Path) -> None:
    """PyTorch warns of a CUDA toolkit on a machine without a GPU."""
    environment = {**os.environ, "CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "vis4mer.cli.main", "doctor"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
