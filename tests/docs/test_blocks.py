"""Every command and every program in the README and on the pages runs, in order, and prints what the text claims."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fences import EXECUTED, OUTPUT, Block, read_blocks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Languages of blocks that are neither executed nor output.
OTHER = ("csv", "zsh", "fish", "yaml", "toml", "cpp")
SLOW = ("train.md", "reproduce.md", "export.md", "cpp.md")
TIMEOUT = 300  # seconds for one block


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _parameters() -> list[object]:
    pages = [page for page in PAGES if any(block.executed for block in read_blocks(page))]
    marks = {page: [pytest.mark.slow] if page.name in SLOW else [] for page in pages}
    return [pytest.param(page, id=_name(page), marks=marks[page]) for page in pages]


@pytest.mark.parametrize("page", _parameters())
def test_blocks_run_and_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run one after the other in a folder that holds nothing but the samples."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns("__pycache__"))
    printed, comparable = "", False
    for block in read_blocks(page):
        if missing := [tool for tool in block.markers.get("needs", "").split() if shutil.which(tool) is None]:
            pytest.skip(f"{block.place}: needs {', '.join(missing)}")
        if block.executed:
            printed, comparable = _execute(block, tmp_path), True
        elif block.language in OUTPUT:
            if comparable and "not compared" not in block.markers:
                _compare(block, printed)
            comparable = False
        else:
            comparable = False


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_that_do_not_run_have_a_reason(page: Path) -> None:
    for block in read_blocks(page):
        assert block.language in (*EXECUTED, *OUTPUT, *OTHER), f"{block.place}: name the block's language"
        assert len(block.markers.get("not run", "a reason")) > 5, f"{block.place}: not run for what reason?"


def _execute(block: Block, folder: Path) -> str:
    program = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    # A Python script finds modules in its own folder; the commands of this environment come first.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*program, block.text], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, f"{block.place}:\n{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _compare(block: Block, printed: str) -> None:
    """Compares text with output; `...` in the text stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in block.text.rstrip().split("..."))
    assert re.fullmatch(pattern, printed.rstrip(), re.DOTALL), f"{block.place}: printed\n{printed}"
