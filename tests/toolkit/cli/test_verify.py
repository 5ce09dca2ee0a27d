import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.main import main
from vis4mer.runtime.loading import sample_bundle

SCHEMA_1 = Path(__file__).parents[2] / "resources" / "bundles" / "schema-1"


def verify(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_an_unknown_device_is_a_usage_error(tiny_bundle: Path) -> None:
    result = verify(tiny_bundle, "--device", "abacus")
    assert result.exit_code == 2
    assert "must be auto, cpu, cuda or cuda:N" in result.stderr


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), ("config.json", "is a checkpoint")])
def test_a_path_that_is_not_a_bundle_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "it"
    if content is not None:
        path.mkdir()
        (path / content).touch()
    result = verify(path)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_not_part_of_a_bundle_or_not_compared_is_listed(tmp_path: Path) -> None:
    bundle = shutil.copytree(SCHEMA_1, tmp_path / "bundle")
    (bundle / "notes\x1b.txt").touch()
    (bundle / "manifest.json.minisig").touch()
    result = verify(bundle, "--device", "cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["4 files match the manifest", r"not part of the bundle: notes\x1b.txt"]
    assert "not compared: the manifest itself, which has no digest before schema 3" in lines
    assert lines[-1] == "verified on cpu (requested)"
    values = json.loads(verify(bundle, "--device", "cpu", "--json").stdout)
    assert values["extra_files"] == ["notes\x1b.txt"]
    assert len(values["not_compared"]) == 3


def test_a_graph_that_its_export_did_not_run_is_named(tmp_path: Path) -> None:
    bundle = shutil.copytree(SCHEMA_1, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["parity"]["colour"] |= {"ran": "another graph", "reason": "there is no GPU"}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = verify(bundle, "--device", "cpu")
    assert result.exit_code == 0
    line = "colour ran here as it is written, but not on the machine that exported it: there is no GPU"
    assert line in result.stdout.splitlines()


def test_an_altered_manifest_is_one_line(tmp_path: Path) -> None:
    bundle = shutil.copytree(sample_bundle(), tmp_path / "bundle")
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"returns"', '"leaves"'))
    for command in ("verify", "inspect"):
        result = CliRunner().invoke(main, [command, str(bundle)])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "its content does not match its own digest" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_the_table_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for module in ("parity_table", "rows"):
        monkeypatch.setattr(f"vis4mer.cli.{module}.is_terminal", lambda stream: True)
    result = verify(sample_bundle(), "--device", "cpu")
    assert max(map(len, result.stdout.splitlines())) <= columns
    words = result.stdout.split()
    for word in ("encoder.onnx", "visitor.onnx", "random", "static", "movie"):
        assert word in [w.strip(",") for w in words], result.stdout


def test_a_training_run_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "config.json").touch()
    for command in ("verify", "inspect"):
        result = CliRunner().invoke(main, [command, str(tmp_path / "run")])
        assert result.exit_code == 1
        assert (
            f"is the folder of a training run, not a model; pass its best model, '{tmp_path}/run/best'" in result.stderr
        )
