"""Short forms of the campaigns, and proof that a campaign notices what it looks for."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns import bombs, fuzz, targets, videos
from tests.campaigns.campaign import ROOT, failure
from tests.campaigns.isolation import isolated
from tests.campaigns.mutation import mutate


def test_damaged_movies_are_read_or_refused(tmp_path: Path) -> None:
    # A process of its own: the campaign forks, which this one, with the threads of other tests, should not.
    command = [sys.executable, "-m", "tests.campaigns.videos", "--count", "6", "--through", "reader"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "rows.json")], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["container"]: row["tried"] for row in rows} == dict.fromkeys(videos.CONTAINERS, 6)


@pytest.mark.slow
def test_bombs_are_read_or_refused(tmp_path: Path) -> None:
    names = [name for name in bombs.BOMBS if name not in bombs.SLOW]
    command = [sys.executable, "-m", "tests.campaigns.bombs", "--through", "reader", "--only", *names]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "rows.json")], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["tried"] == len(names)
    assert row["read"] >= 20
    assert row["refused"] >= 20


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_the_corpus_of_the_fuzzer_is_read_or_refused(name: str) -> None:
    inputs = fuzz.corpus(name)
    assert 3 <= len(inputs) <= 40
    assert max(path.stat().st_size for path in inputs) <= fuzz.MOST_INPUT_BYTES
    accepted = [targets.run(name, path.read_bytes()) for path in inputs]
    assert any(accepted), "some input reaches what follows the checks"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_a_target_is_fuzzed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.campaigns.fuzz", "bitstream", "--seconds", "5", "--failures", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("call", "time_limit", "expected"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), 30, "ended by SIGSEGV"),
        (lambda: time.sleep(60), 0.5, "runs for more than"),
        (lambda: [][0], 30, "IndexError"),
        (lambda: len(bytearray(1_100_000_000)) - 1_100_000_000, 30, "MB"),
    ],
    ids=["crash", "hang", "exception", "memory"],
)
def test_a_failure_is_noticed(call: Callable[[], int], time_limit: float, expected: str, tmp_path: Path) -> None:
    assert expected in failure(isolated(call, time_limit, tmp_path))


def test_an_error_line_of_run_is_expected(tmp_path: Path) -> None:
    ending = isolated(lambda: videos.run(tmp_path / "absent.mp4"), 30.0, tmp_path)
    assert (ending.status, failure(ending, command=True)) == (1, "")
    silent = isolated(lambda: 1, 30.0, tmp_path)
    assert failure(silent, command=True) == "prints 0 error lines"


def test_mutations_are_reproducible_and_differ() -> None:
    data = bytes(range(256)) * 8
    assert mutate(data, 3) == mutate(data, 3)
    assert len({mutate(data, seed) for seed in range(50)} | {data}) > 45
