"""A toy format, a target and its backend, is exported, verified, inspected and run like the built-in ones."""

import inspect
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vis4mer
from vis4mer.cli.main import main
from vis4mer.errors import BundleError, ConfigError
from vis4mer.runtime.backends import registry as backends
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.loading import sample_bundle
from vis4mer_export.targets import registry
from vis4mer_export.targets.base import Target, TargetOption
from vis4mer_export.targets.onnx import OnnxTarget

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "export.md"


def module_of_the_guide() -> str:
    """The module by which the guide adds a format, compressed ONNX."""
    (module,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text().partition("## Add a format")[2], re.DOTALL)[:1]
    return str(module)


@pytest.fixture(scope="session")
def zipped_target() -> type[Target]:
    names: dict[str, Any] = {}
    exec(compile(module_of_the_guide(), str(GUIDE), "exec"), names)
    target: type[Target] = names["ZippedTarget"]
    return target


@pytest.fixture
def zipped(zipped_target: type[Target], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the toy target for one test."""
    monkeypatch.setattr(registry, "_targets", dict(registry._targets))
    monkeypatch.setattr(backends, "_backends", dict(backends._backends))
    registry.register(zipped_target())
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
    (answer,) = json.loads(run("run", movie, "--bundle", output, "--device", "cpu", "--output-format", "json").stdout)
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
    zipped_target: type[Target], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_targets", dict(registry._targets))
        patch.setattr(backends, "_backends", dict(backends._backends))
        registry.register(zipped_target())
        path = vis4mer.export(checkpoint, tmp_path / "bundle", format="zipped").path
    with pytest.raises(BundleError, match="format='zipped': must be one of onnx, torchscript, pt2, trt, trt-rtx"):
        Bundle.open(path)


def test_names_are_unique(zipped: None, zipped_target: type[Target]) -> None:
    with pytest.raises(ConfigError, match="format='zipped': another target has this name"):
        registry.register(zipped_target())
    backend = type("Backend", (), {"format": "onnx"})()
    with pytest.raises(ConfigError, match="format='onnx': another backend already reads it"):
        registry.register(variant(zipped_target, name="second", backend=backend))
    assert "second" not in registry.names()


def variant(target: type[Target], **attributes: Any) -> Target:
    """A target like another but for some attributes."""
    made: Target = type("Variant", (target,), attributes)()
    return made


def option(name: str, help: str = "Another option.") -> TargetOption:
    return TargetOption(name, "X", "", help, str)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": "Zip File"}, "format='Zip File': must be words of lower-case letters and digits"),
        ({"name": ""}, "format='': must be words"),
        ({"suffix": "onnx.gz"}, r"suffix='onnx\.gz': must be letters and digits alone"),
        ({"suffix": ".zip"}, r"suffix='\.zip'"),
        ({"suffix": ""}, "suffix=''"),
        ({"options": [option("precision")]}, "option='precision': every format has an option of this name"),
        ({"options": [option("head")]}, "option='head': every format has"),
        ({"options": [option("help")]}, "option='help': every format has"),
        ({"options": [option("batch-size")]}, "option='batch-size': must be words"),
        ({"options": [option("device")]}, "option='device': format pt2 defines an option of this name differently"),
        ({"options": [option("x"), option("x", "")]}, "option='x': format other defines an option of this name"),
    ],
)
def test_what_would_clash_is_refused(zipped_target: type[Target], attributes: dict[str, Any], message: str) -> None:
    backend = type("Backend", (), {"format": "other"})()
    with pytest.raises(ConfigError, match=message) as error:
        registry.register(variant(zipped_target, **{"name": "other", "backend": backend, **attributes}))
    assert "\n" not in str(error.value)
    assert "other" not in registry.names()
    with pytest.raises(ConfigError):
        backends.backend("other")


def test_targets_may_share_an_option(zipped: None, zipped_target: type[Target]) -> None:
    backend = type("Backend", (), {"format": "other"})()
    options = (*registry.target("pt2").options, *zipped_target.options)
    registry.register(variant(zipped_target, name="other", backend=backend, options=options))
    words = " ".join(run("export", "--help").stdout.split())
    assert words.count("--device cpu|cuda") == 1
    assert "Only with --format pt2, trt, trt-rtx or other." in words


def test_the_common_options_are_those_of_the_function_and_the_command() -> None:
    function = set(inspect.signature(vis4mer.export).parameters) - {"target_options"}
    words = re.findall(r"^ +(?:-h, )?--([a-z-]+)", run("export", "--help").stdout, re.MULTILINE)
    own = {option.name for name in registry.names() for option in registry.target(name).options}
    command = {word.replace("-", "_") for word in words} - own
    assert function | command == registry.COMMON_OPTIONS


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder in which two distributions are installed: the guide's, and a broken one."""
    (tmp_path / "zipped.py").write_text(module_of_the_guide())
    (tmp_path / "broken.py").write_text("raise RuntimeError('no luck\\ntoday')")
    for name in ("zipped", "broken"):
        folder = tmp_path / f"{name}_format-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-format\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[vis4mer.targets]\n{name} = {name}:register\n")
    return tmp_path


def command(plugins: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(plugins), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "vis4mer.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


BROKEN = "vis4mer: warning: plug-in broken=broken:register of broken-format cannot be loaded: no luck\n"


def test_an_installed_format_is_known_to_the_commands(
    zipped: None, plugins: Path, checkpoint: Path, movie: Path, tmp_path: Path
) -> None:
    described = command(plugins, "export", "--help")
    assert described.returncode == 0
    assert "|zipped]" in described.stdout
    assert described.stderr == BROKEN
    bundle = vis4mer.export(checkpoint, tmp_path / "bundle", format="zipped", movie=movie).path
    inspected = command(plugins, "inspect", bundle, "--json")
    assert (inspected.returncode, json.loads(inspected.stdout)["format"]) == (0, "zipped")
    assert inspected.stderr == BROKEN


def test_plugins_are_not_loaded_for_a_built_in_format(plugins: Path) -> None:
    inspected = command(plugins, "inspect", sample_bundle(), "--json")
    assert (inspected.returncode, inspected.stderr) == (0, "")


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
