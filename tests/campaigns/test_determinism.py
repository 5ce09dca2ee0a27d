"""The short form of the determinism campaign, and proof that it notices differences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.campaign import ROOT
from tests.campaigns.determinism import SUBJECTS, Output, Row, Setting, compare, difference, rows_of, run

INFINITY = float("inf")


@pytest.mark.slow
def test_outputs_are_equal(tmp_path: Path) -> None:
    output = tmp_path / "rows.json"
    command = [sys.executable, "-m", "tests.campaigns.determinism", "--count", "1", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert [row["tried"] for row in rows] == [1] * sum(len(rows_of(subject)) for subject in SUBJECTS)
    assert all(row["equal"] == 1 for row in rows if row["promised"] == "equal bytes")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.25]}, 0.25),
        ({"label": "a"}, {"label": "b"}, INFINITY),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, INFINITY),
        ([1.0], [1.0, 1.0], INFINITY),
        ([3], [4], INFINITY),
        ([0.5, float("nan")], [0.5, 0.5], INFINITY),
        ([None, True, 2.0], [None, True, 2.0], 0.0),
    ],
)
def test_differences(one: object, other: object, expected: float) -> None:
    assert difference(one, other) == expected


@pytest.mark.parametrize(
    ("other", "promised", "problem"),
    [
        ({"stdout": b"[0.5]"}, True, ""),
        ({"stdout": b"[0.500001]"}, False, ""),
        ({"stdout": b"[0.500001]"}, True, "figures differ by 1.0e-06"),
        ({"stdout": b"[0.5001]"}, False, "figures differ by 1.0e-04"),
        ({"stdout": b"[0.5 ]"}, True, "figures differ by 0.0e+00"),
        ({"stdout": b"[0.5]", "file": b""}, True, "file differ"),
    ],
)
def test_comparison(other: Output, promised: bool, problem: str) -> None:
    assert compare({"stdout": b"[0.5]"}, other, promised=promised)[1] == problem


def test_a_row_counts_what_differs(tmp_path: Path) -> None:
    def varying(inputs: Path, output: Path, setting: Setting) -> Output:
        seed = int(dict(setting.environment)["PYTHONHASHSEED"])
        return {"stdout": json.dumps([1 / 3 + 1e-7 * (seed // 2)]).encode()}

    row = Row("subject", "seed", True, [Setting("again")] * 9, varying)
    result = run(row, 3, tmp_path)
    assert (result["tried"], result["equal"], result["failed"]) == (3, 1, 2)
    assert result["greatest_difference"] == "1.0e-07"
