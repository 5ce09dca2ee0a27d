"""A toy format, a target and its backend, is exported, verified, inspected and run like the built-in ones."""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vis4mer
from vis4mer.cli.main import main
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import BundleError, ConfigError
from vis4mer.runtime.backends import registry as backends
from vis4mer.runtime.backends.base import Graph, Runner
from vis4mer.runtime.backends.onnx import OnnxRunner
from vis4mer.runtime.bundle import Bundle
from vis4mer_export.targets import registry
from vis4mer_export.targets.base import Built, GraphSource, Target, TargetOption, open_written
from vis4mer_export.targets.onnx import OnnxTarget, write_onnx

LEVELS = [str(level) for level in range(10)]


class ZippedBackend:
    """Opens ONNX graphs that were compressed."""

    format = "zipped"

    def open(self, graph: Graph, device: Device) -> Runner:
        return OnnxRunner(Graph(graph.name, graph.interface, zlib.decompress(graph.data)), device)


def parse_level(text: str) -> int:
    if text not in LEVELS:
        raise ConfigError.of("level", text, "must be from 0 to 9")
    return int(text)


class ZippedTarget(Target):
    """Compresses ONNX graphs."""

    name = "zipped"
    suffix = "zonnx"
    lowerings = ("matmul_dft",)
    precisions = ("fp32",)
    options = (TargetOption("level", "0..9", "6", "Level of compression.", parse_level),)
    packages = ("onnx",)
    backend = ZippedBackend()

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        write_onnx(source, path)
        path.write_bytes(zlib.compress(path.read_bytes(), settings["level"]))
        return Built(open_written(self, source, path, CPU), {"level": settings["level"]})


@pytest.fixture
def zipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the toy target for one test."""
    monkeypatch.setattr(registry, "_targets", dict(registry._targets))
    monkeypatch.setattr(backends, "_backends", dict(backends._backends))
    registry.register(ZippedTarget())
    yield


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_a_registered_target_is_a_format_like_any_other(
    zipped: None, checkpoint: Path, movie: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    exported = run("export", "--checkpoint", checkpoint, "--format", "zipped", "--level", "1", "--output", output)
    assert exported.exit_code == 0, exported.stderr
    assert "scene.zonnx" in exported.stdout

    bundle = Bundle.open(output)
    assert (bundle.format, set(bundle.tools)) == ("zipped", {"vis4mer", "python", "onnx"})
    assert zlib.decompress(bundle.read("scene.zonnx"))
    assert bundle.parity["scene"]["level"] == 1
    assert {block["lowering"] for block in bundle.lowering["scene"]["blocks"]} == {"matmul_dft"}

    verified = run("verify", output, "--device", "cpu")
    assert (verified.exit_code, "verified on cpu" in verified.stdout) == (0, True)
    inspected = json.loads(run("inspect", output, "--json").stdout)
    assert (inspected["format"], inspected["interface"]["scene"]["inputs"][0]["name"]) == ("zipped", "features")
    answer = json.loads(run("run", movie, "--bundle", output, "--device", "cpu", "--output-format", "json").stdout)
    expected = vis4mer.load(checkpoint, "cpu", "fp32")(movie)
    assert answer["heads"]["scene"]["probabilities"] == pytest.approx(expected.heads["scene"].probabilities, abs=1e-4)


def test_the_python_api_takes_its_option(zipped: None, checkpoint: Path, movie: Path, tmp_path: Path) -> None:
    bundle = vis4mer.export(checkpoint, tmp_path / "bundle", format="zipped", movie=movie, level=9)
    assert bundle.parity["encoder"]["level"] == 9
    assert bundle.parity["encoder"]["kinds"] == ["random", "random", "movie", "movie"]


def test_the_command_describes_a_registered_target(zipped: None) -> None:
    words = " ".join(run("export", "--help").stdout.split())
    assert "|zipped]" in words
    assert "--level 0..9 Level of compression. Only with --format zipped. [default: 6]" in words


def test_without_its_registration_its_bundle_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_targets", dict(registry._targets))
        patch.setattr(backends, "_backends", dict(backends._backends))
        registry.register(ZippedTarget())
        path = vis4mer.export(checkpoint, tmp_path / "bundle", format="zipped").path
    with pytest.raises(BundleError, match="format='zipped': must be one of onnx, torchscript, pt2, trt, trt-rtx"):
        Bundle.open(path)


def test_names_are_unique(zipped: None) -> None:
    with pytest.raises(ConfigError, match="format='zipped': another target has this name"):
        registry.register(ZippedTarget())

    class SecondOnnx(ZippedTarget):
        name = "second"
        backend = type("Backend", (ZippedBackend,), {"format": "onnx"})()

    with pytest.raises(ConfigError, match="format='onnx': another backend already reads it"):
        registry.register(SecondOnnx())
    assert "second" not in registry.names()


@pytest.mark.parametrize("name", registry.names())
def test_built_in_targets_are_complete(name: str) -> None:
    target = registry.target(name)
    assert (target.name, target.backend.format) == (name, name)
    assert target.suffix.isalnum()
    assert target.candidates("auto") == target.lowerings
    assert set(target.parse_options({})) == {option.name for option in target.options}
    assert {"vis4mer", "python", "torch"} <= set(target.tool_versions())


def test_a_lowering_is_taken_as_requested_or_refused() -> None:
    target = OnnxTarget()
    assert target.candidates("matmul_dft") == ("matmul_dft",)
    with pytest.raises(ConfigError, match=r"^lowering='fft': format onnx cannot run it; use auto, blocked_toeplitz, "):
        target.candidates("fft")


def test_describing_the_targets_imports_nothing_heavy() -> None:
    code = "import sys, vis4mer_export.options, vis4mer.cli.export; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "onnx", "tensorrt", "tensorrt_rtx", "numpy"} & set(done.stdout.split())
