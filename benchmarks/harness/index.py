"""The list of all benchmarks, read from their sources, so it needs none of their dependencies."""

import ast
from pathlib import Path

_FOLDER = Path(__file__).parents[1]


def names() -> list[str]:
    """Returns the names of all benchmarks in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))


def commands() -> dict[str, str]:
    """Returns the first line of every benchmark's description by the command that runs the benchmark."""
    return {f"python -m benchmarks.{name}": _summary(_FOLDER / f"{name}.py") for name in names()}


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
