"""Short forms of the campaigns of damaged artifacts, kills and failing disks, and proof that each notices a failure."""

import errno
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import artifacts, disk, disk_shim, kills
from tests.campaigns.artifacts_crafted import weight_files
from tests.campaigns.artifacts_values import mutate_file
from tests.campaigns.campaign import ROOT
from tests.campaigns.commands import COMMANDS, Command, Expected

needs_compiler = pytest.mark.skipif(disk_shim.compiler() is None, reason=disk_shim.NO_COMPILER)


def rows_of(tmp_path: Path, module: str, *options: str) -> list[dict[str, Any]]:
    """Runs a campaign in a process of its own: it forks, as this one, with the threads of other tests, should not."""
    output = tmp_path / "rows.json"
    command = [sys.executable, "-m", f"tests.campaigns.{module}", "--jobs", "1", *options, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows: list[dict[str, Any]] = json.loads(output.read_text())["rows"]
    return rows


@pytest.mark.slow
def test_damaged_artifacts_are_opened_or_refused(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "artifacts", "--count", "1")
    assert [(row["artifact"], row["file"]) for row in rows] == [artifact.row for artifact in artifacts.ARTIFACTS]
    assert all(row["tried"] >= 1 for row in rows)


@pytest.mark.slow
def test_killed_commands_leave_whole_files_and_are_completed(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "kills", "--count", "4")
    assert {row["command"]: row["tried"] for row in rows} == dict.fromkeys(kills.KILLED, 4)


@pytest.mark.slow
def test_failing_disks_are_reported_and_lose_nothing(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "disk", "--every", "80", "--commands", "extract", "train", "run")
    assert {row["command"] for row in rows} == {"extract", "train", "run"}


class Careless(Command):
    """A command that writes its file in two steps, without any care."""

    def run(self, inputs: Path, output: Path, *, again: bool = False) -> int:
        try:
            with (output / "result").open("w") as file:
                file.write("first half, ")
                file.flush()
                time.sleep(0.2)
                file.write("second half")
        except OSError as error:
            print(f"vis4mer: error: {error}", file=sys.stderr)
            return 1
        return 0


def read(output: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in output.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def careless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Expected:
    monkeypatch.setitem(COMMANDS, "careless", Careless("careless", lambda inputs, output: (), read))
    for name in ("inputs", "logs"):
        (tmp_path / name).mkdir()
    final = {"result": "first half, second half", "notes.txt": "foreign"}
    return Expected(final, {name: {text} for name, text in final.items()}, 0.2)


def test_a_kill_within_a_file_is_noticed(careless: Expected, tmp_path: Path) -> None:
    subject = kills.Subject("careless", tmp_path, careless, {})
    problems = [subject.attempt(seed).problem for seed in range(8)]
    assert "result is damaged" in problems


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda output: (output / ".result.leftover").touch(), "leaves .result.leftover"),
        (lambda output: (output / "notes.txt").unlink(), "the foreign file notes.txt was touched"),
        (lambda output: print("Traceback (most recent call last):", file=sys.stderr), "prints a traceback"),
        (lambda output: (output / "more").touch(), "more should not exist after a complete run"),
    ],
    ids=["leftover", "foreign file", "traceback", "another file"],
)
def test_side_effects_are_noticed(
    change: Callable[[Path], None], expected: str, careless: Expected, tmp_path: Path
) -> None:
    if "notes.txt" in expected:
        careless = replace(careless, final={"result": careless.final["result"]})
    trial = disk.Subject("careless", tmp_path, careless).attempt(disk.Condition("", "", change), older=False)
    assert expected in trial.problem


_FAILING_WRITES = """
import os, sys
from pathlib import Path
from tests.campaigns import disk_shim
disk_shim.restart_with_shim()
folder = Path(sys.argv[1])
disk_shim.arm(folder, disk_shim.Mode[sys.argv[2]], disk_shim.Kind.all(), 2, int(sys.argv[3]))
for name in "abc":
    try:
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
        print(os.write(descriptor, bytes(10)))
    except OSError as error:
        print(error.errno)
(folder.parent / "elsewhere").write_text("not affected")
print(disk_shim.counted(), disk_shim.failed())
"""


@needs_compiler
@pytest.mark.parametrize(
    ("mode", "error", "printed"),
    [
        ("COUNT", errno.EIO, "10 10 10 6 0"),
        ("FAIL_ONCE", errno.EIO, "5 10 10 6 1"),
        # The first write that fails on a full disk takes half of its bytes.
        ("FAIL_ONCE", errno.ENOSPC, "5 10 10 6 1"),
        ("FAIL_ON", errno.ENOSPC, "5 28 28 4 3"),
        ("KILL_BEFORE", 0, ""),
    ],
)
def test_injected_failures_happen_where_they_should(mode: str, error: int, printed: str, tmp_path: Path) -> None:
    folder = (tmp_path / "folder").resolve()
    folder.mkdir()
    command = [sys.executable, "-c", _FAILING_WRITES, str(folder), mode, str(error)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == printed.split(), done.stderr
    assert done.returncode == (-9 if mode == "KILL_BEFORE" else 0)
    assert (tmp_path / "elsewhere").exists() == (mode != "KILL_BEFORE")


def _unpickle(inputs: Path, path: Path) -> int:
    pickle.loads((path / "weights.pt").read_bytes())
    return 0


def _overwrite(inputs: Path, path: Path) -> int:
    (path / "weights.pt").write_bytes(b"repaired")
    return 1


@pytest.mark.parametrize(
    ("way", "seed", "expected"),
    [(_unpickle, "os.system, pickle", "code in the file ran"), (_overwrite, 0, "the artifact's folder changed")],
)
def test_what_opening_an_artifact_does_is_noticed(
    way: Callable[[Path, Path], int], seed: int | str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = artifacts.Artifact("published", "published", "weights.pt", (way,), weight_files)
    monkeypatch.setattr(artifacts, "ARTIFACTS", (artifact,))
    (tmp_path / "logs").mkdir()
    (tmp_path / "inputs/published").mkdir(parents=True)
    (tmp_path / "inputs/published/weights.pt").write_bytes(bytes(100))
    assert artifacts.attempt(0, seed, tmp_path).problem == expected


def test_values_are_changed_reproducibly_and_stay_readable() -> None:
    data = json.dumps({"a": [1, {"b": "text"}], "c": 0.5}).encode()
    changed = [mutate_file(data, ".json", seed) for seed in range(1, 99, 2)]
    assert changed == [mutate_file(data, ".json", seed) for seed in range(1, 99, 2)]
    assert len({*changed, data}) > 30
    assert sum(_is_json(text) for text in changed) > 40


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
