"""The short form of the endurance campaign, with its leaking controls."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import endurance
from tests.campaigns.campaign import ROOT
from tests.campaigns.endurance import SCENARIOS, Change, Usage, _parts
from tests.campaigns.isolation import Ending

MB = 1_000_000


def short_form(count: int, scenarios: list[str], output: Path) -> dict[str, dict[str, Any]]:
    # A process of its own: the campaign forks, which this one, with the threads of other tests, should not.
    command = [sys.executable, "-m", "tests.campaigns.endurance", "--count", str(count), "--output", str(output)]
    # Few classifications do not fill as many arenas as a machine with many processors has.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    subprocess.run([*command, "--scenarios", *scenarios], cwd=ROOT, env=environment, capture_output=True, timeout=600)
    return {row["scenario"]: row for row in json.loads(output.read_text())["rows"]}


def test_a_process_does_not_grow_and_leaks_are_noticed(tmp_path: Path) -> None:
    rows = short_form(100, ["bundle", "memory-control", "files-control"], tmp_path / "rows.json")
    steady, memory, files = rows.values()
    assert (steady["tried"], steady["refused"], steady["failures"]) == (100, 19, [])
    assert memory["allocated_megabytes"] == pytest.approx(20, abs=2)
    assert (memory["failures"], files["failures"]) == ([], [])


@pytest.mark.slow
def test_threads_and_checkpoints_give_equal_answers(tmp_path: Path) -> None:
    rows = short_form(160, ["checkpoint", "threads", "new-threads"], tmp_path / "rows.json")
    assert [row["tried"] for row in rows.values()] == [32, 160, 160]
    # Growth is not judged here: so few rounds of eight do not reach the most that ONNX Runtime will need at once.
    problems = [problem for row in rows.values() for problem in row["failures"] if " grows by " not in problem]
    assert problems == []


def usages(resident: int = 0, allocated: int = 0, files: int = 0, threads: int = 0) -> list[Usage]:
    """Three thousand usages; each argument is what leaks per classification, in bytes or in thousandths."""
    return [
        # Every seventh measurement is far off, as when garbage is about to be collected.
        Usage(
            (150 + 40 * (i % 7 == 3)) * MB + resident * i,
            100 * MB + allocated * i,
            9 + files * i // 1000,
            4 + (i % 5 == 1) + threads * i // 1000,
        )
        for i in range(3000)
    ]


def test_fluctuation_is_no_growth() -> None:
    assert Change.of(usages()).problems() == []


@pytest.mark.parametrize(
    ("leak", "problem"),
    [
        ({"resident": 6000}, "the resident set grows by 11.4 MB"),
        ({"allocated": 3000}, "the allocated memory grows by 5.7 MB"),
        ({"files": 1}, "the number of open files changes from 10 to 11"),
        ({"threads": 1}, "the number of threads changes from 5 to 6"),
    ],
)
def test_a_leak_is_a_problem(leak: dict[str, int], problem: str) -> None:
    assert Change.of(usages(**leak)).problems() == [problem]


@pytest.mark.parametrize("count", [20, 100, 1999, 2500, 10_000])
def test_the_compared_parts_do_not_overlap(count: int) -> None:
    warm_up, compared = _parts(count)
    assert warm_up >= count // 10
    assert 1 <= compared <= (count - warm_up) // 2


def test_controls_exist_for_all_that_is_compared() -> None:
    noticed = {word for scenario in SCENARIOS.values() for word in scenario.noticed}
    assert noticed == {"allocated memory", "open files", "threads"}


def test_a_process_that_fails_without_a_message_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "isolated", lambda *_: Ending(3, "", False, 1.0, 0, "", ""))
    row = endurance.run("bundle", 20, tmp_path)
    assert (row["failed"], row["failures"]) == (1, ["exit status 3"])
