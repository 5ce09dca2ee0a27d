"""What the packages log reaches stderr in one form, whichever command runs."""

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vis4mer
from vis4mer.cli.main import main
from vis4mer.devices.device import Driver

FALLBACK = "vis4mer: warning: running on the CPU: device='cuda:0': it is broken\n"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def broken_gpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU on which nothing loads."""
    from vis4mer.devices import device
    from vis4mer.errors import DeviceError
    from vis4mer.runtime.backends import onnx

    load = onnx.OnnxBackend.open

    def open_on_cpu_only(self: Any, graph: Any, device: Any) -> Any:
        if device.kind == "cuda":
            raise DeviceError.of("device", str(device), "it is broken")
        return load(self, graph, device)

    monkeypatch.setattr(device, "probe_driver", lambda: Driver("13.0", ("a GPU",), ""))
    monkeypatch.setattr(device, "bf16_units", lambda device: None)
    monkeypatch.setattr(onnx.OnnxBackend, "open", open_on_cpu_only)
    monkeypatch.setattr("vis4mer.runtime.loading.sample_bundle", lambda: tiny_bundle)


@pytest.mark.usefixtures("broken_gpu")
def test_a_fallback_has_the_form_of_every_message(movie: Path, tiny_bundle: Path) -> None:
    for arguments in (["run", movie, "--bundle", tiny_bundle], ["doctor"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert result.stderr == FALLBACK, arguments


@pytest.mark.usefixtures("broken_gpu")
def test_quiet_hides_warnings(movie: Path, tiny_bundle: Path) -> None:
    result = invoke("run", movie, "--bundle", tiny_bundle, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.usefixtures("broken_gpu")
def test_verify_falls_back_with_a_message() -> None:
    result = invoke("verify", Path(__file__).parents[2] / "resources" / "bundles" / "schema-1")
    assert (result.exit_code, result.stderr) == (0, FALLBACK)
    assert "verified on cpu" in result.stdout


def test_inspect_has_nothing_to_report(tiny_bundle: Path) -> None:
    result = invoke("inspect", tiny_bundle)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("package", ["vis4mer", "vis4mer_export", "vis4mer_kernels"])
def test_export_shows_the_warnings_of_every_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vis4mer.errors import ExportError

    def export(*arguments: Any, **options: Any) -> Any:
        logger = logging.getLogger(f"{package}.some.module")
        logger.info("a detail")
        logger.warning("a slow path\nis taken")
        raise ExportError("the end")

    monkeypatch.setattr(vis4mer, "export", export)
    result = invoke("export", "--checkpoint", "none", "--format", "onnx", "--output", "nowhere")
    assert result.exit_code == 1
    assert result.stderr == "vis4mer: warning: a slow path\\nis taken\nvis4mer: error: the end\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_runs_out_is_one_line_and_costs_only_its_movie(
    error: Exception, movie: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vis4mer.video import reader

    scan = reader.scan

    def scanning(path: str) -> Any:
        if path.endswith("large.mkv"):
            raise error
        return scan(path)

    monkeypatch.setattr(reader, "scan", scanning)
    result = invoke("run", tmp_path / "large.mkv", movie, "--bundle", tiny_bundle, "--output-format", "jsonl", "-q")
    assert result.exit_code == 1
    assert result.stderr.startswith("vis4mer: error: video=")
    assert "too little memory is left to classify it; free some" in result.stderr
    assert result.stderr.count("\n") == 1
    assert str(movie) in result.stdout

    def exhausted(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("vis4mer.runtime.loading.load", exhausted)
    result = invoke("run", movie, "--bundle", tiny_bundle)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("vis4mer: error: memory: too little is left for this command; free some")
    assert result.stderr.count("\n") == 1
