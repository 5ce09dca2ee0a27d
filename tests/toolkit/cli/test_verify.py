from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.main import main


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
