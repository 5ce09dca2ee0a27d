"""Fixtures that run `vis4mer run`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.main import main

Run = Callable[..., Result]


@pytest.fixture
def run(tiny_bundle: Path) -> Run:
    """Runs `vis4mer run --bundle TINY --device cpu` with further arguments; stdout and stderr apart."""

    def invoke(*arguments: Any) -> Result:
        fixed = ["run", "--bundle", str(tiny_bundle), "--device", "cpu"]
        return CliRunner().invoke(main, [*fixed, *map(str, arguments)])

    return invoke


@pytest.fixture
def vis4mer_command(tiny_bundle: Path) -> list[str]:
    return [sys.executable, "-m", "vis4mer.cli.main", "run", "--bundle", str(tiny_bundle), "--device", "cpu"]
