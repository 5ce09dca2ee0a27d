import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.main import main
from vis4mer.config import ModelConfig
from vis4mer.packages import install_command

SAMPLE = Path(__file__).parents[3] / "samples" / "bundle"
ORIGINAL = Path(__file__).parents[2] / "resources" / "original" / "lvu-small" / "checkpoint.pt"


def inspect(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_a_bundle_is_described_in_words_and_as_json(tiny_bundle: Path, tiny_config: ModelConfig) -> None:
    words = inspect(tiny_bundle).stdout
    for word in ("bundle", "onnx", "fp32", "mean-colour", "reddish, greenish, bluish", "regression", "5 s every 2 s"):
        assert word in words
    values = json.loads(inspect(tiny_bundle, "--json").stdout)
    assert values["kind"] == "bundle"
    assert ModelConfig.from_dict(values["model"]) == tiny_config
    assert set(values["files"]) == {"encoder.onnx", "colour.onnx", "light.onnx"}


def test_empty_facts_are_omitted_and_each_block_has_its_row(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    block = {"lowering": "fft", "relative_l2": 1e-7, "reason": "requested"}
    manifest["tools"] = {"engine": {"gpus": [], "precision": "fp16"}, "note": None}
    manifest["parity"] = {"encoder": {"max_abs": 0.5, "same_label": None}}
    manifest["lowering"] = {"colour": {"length": 10, "blocks": [block, block]}}
    # Without a digest, as before schema 3, the test need not compute one.
    manifest["schema_version"] = 2
    del manifest["digest"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    rows = [line.split("  ", 1) for line in inspect(bundle).stdout.splitlines()]
    words = {name: value.strip() for name, value in rows}
    assert words["tools engine"] == "precision fp16"
    assert "tools note" not in words
    assert words["parity encoder"] == "max_abs 0.5"
    assert words["lowering colour"] == "length 10"
    for number in range(2):
        assert words[f"lowering colour blocks {number}"] == "lowering fft, relative_l2 1e-07, reason requested"


def test_an_altered_bundle_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with (bundle / "light.onnx").open("ab") as file:
        file.write(b"x")
    result = inspect(bundle)
    assert result.exit_code == 1
    assert "files light.onnx" not in result.stdout
    assert "light.onnx" in result.stderr
    assert result.stderr.count("\n") == 1
    result = inspect(bundle, "--json")
    assert (result.exit_code, result.stdout) == (1, "")


def test_labels_windows_and_sizes_come_first(tiny_bundle: Path) -> None:
    (tiny_bundle / "notes.txt").touch()
    try:
        names = [line.split("  ")[0] for line in inspect(tiny_bundle).stdout.splitlines()]
        assert names[:8] == [
            "path", "kind", "head colour", "head light", "windows", "frames", "size", "not part of it",
        ]  # fmt: skip
        assert json.loads(inspect(tiny_bundle, "--json").stdout)["extra_files"] == ["notes.txt"]
    finally:
        (tiny_bundle / "notes.txt").unlink()


def test_a_checkpoint_s_configuration_is_shown_before_its_weights_are_loaded(tmp_path: Path) -> None:
    """These weights are damaged: what is printed needs the configuration alone."""
    model = ModelConfig.from_dict(json.loads((SAMPLE / "manifest.json").read_text())["model"])
    (tmp_path / "config.json").write_text(json.dumps(model.to_dict()))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    result = inspect(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    names = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert names == ["path", "kind", "head visitor", "windows", "frames"]


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_no_word_is_broken_on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = inspect(SAMPLE).stdout
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("vis4mer.cli.rows.is_terminal", lambda stream: True)
    shown = inspect(SAMPLE).stdout
    assert shown.split() == piped.split()
    for line in shown.splitlines():
        assert len(line) <= columns or len(line.split()) == 1, line
    assert len(shown.splitlines()) > len(piped.splitlines())


def test_the_first_line_comes_before_slow_imports() -> None:
    """An interpreter that cannot import PyTorch or ONNX Runtime describes a bundle all the same."""
    code = "import sys\nfor name in ('torch', 'onnxruntime', 'rich'): sys.modules[name] = None\n"
    code += "from vis4mer.cli.main import main\nmain(['inspect', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", code, str(SAMPLE)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkpoint_of_the_published_code_is_described() -> None:
    pytest.importorskip("torch")
    values = json.loads(inspect(ORIGINAL, "--json").stdout)
    expected = json.loads((ORIGINAL.parent / "config.json").read_text())["config"]
    assert values["kind"] == "state dict of the published ViS4mer"
    assert values["model"]["encoder"] is None
    decoder = values["model"]["heads"]["decoder"]["decoder"]
    for name in ("d_input", "l_max", "d_output", "d_model", "n_layers"):
        assert decoder[name] == expected[name]
    assert values["parameters"]["decoder"] > 0
    assert "none: the heads take features" in inspect(ORIGINAL).stdout


def test_a_checkpoint_needs_pytorch_to_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vis4mer.models.checkpoint", None)
    result = inspect(ORIGINAL)
    assert result.exit_code == 1
    assert f"is needed to load a checkpoint; {install_command('torch')}" in result.stderr


def test_a_path_that_is_neither_is_an_error(tmp_path: Path) -> None:
    result = inspect(tmp_path)
    assert result.exit_code == 1
    assert "holds neither manifest.json nor config.json" in result.stderr
