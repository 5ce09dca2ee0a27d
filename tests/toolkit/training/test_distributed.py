"""Two processes on the CPU against one."""

import itertools
import os
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vis4mer.devices.device import CPU, Device
from vis4mer.errors import ConfigError
from vis4mer.training.distributed import BatchShares, Processes
from vis4mer.training.fit.state import RunFolder

Make = Callable[..., Any]

WORKER = Path(__file__).with_name("worker.py")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_two(*arguments: str | Path) -> list[tuple[int, str]]:
    """Runs two connected workers; returns their exit codes and their output on stderr."""
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, WORKER, *arguments],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.fixture
def run_one(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a single worker in this process."""

    def run(*arguments: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", [str(WORKER), *map(str, arguments)])
        runpy.run_path(str(WORKER))

    return run


@pytest.fixture
def folder(tmp_path: Path, make_model: Make, make_movies: Make) -> Path:
    """Ten movies in batches of 3, 3, 3 and 1, so that shares are uneven and one process has none of the last batch."""
    make_model(dropout=0.0, stride=2.0).save_pretrained(tmp_path / "model")
    splits = {"train": make_movies(10, seed=1), "val": make_movies(5, seed=2)}
    targets = {
        name: [(str(movie.token_file.path), movie.target) for movie in movies] for name, movies in splits.items()
    }
    torch.save(targets, tmp_path / "targets.pt")
    return tmp_path


def result(folder: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"{name}.pt")
    return loaded


def test_each_process_uses_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    second = Processes(rank=3, local_rank=1, count=4)
    assert second.device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [second.device(name) for name in ("auto", "cuda", CPU)] == [Device("cuda", 1), Device("cuda", 1), CPU]
    assert [Processes().device(requested) for requested in ("cuda", Device("cuda", 1))] == ["cuda", Device("cuda", 1)]
    with pytest.raises(ConfigError, match="device='cuda:0': must be auto, cuda or cpu"):
        second.device(Device("cuda", 0))


def test_two_processes_compute_the_gradients_and_figures_of_one(folder: Path, run_one: Make) -> None:
    run_one(folder, folder / "one", 1)
    shutil.copytree(folder / "one", folder / "two")
    run_one(folder, folder / "one", 2)
    assert [code for code, _ in run_two(folder, folder / "two", "2")] == [0, 0]
    one, first, second = (result(folder, name) for name in ("one-0", "two-0", "two-1"))
    assert len(one["gradients"]) == 4
    for expected, *both in zip(one["gradients"], first["gradients"], second["gradients"], strict=True):
        assert max(gradient.abs().max().item() for gradient in expected) > 1e-3
        for gradients in both:
            for a, b in zip(expected, gradients, strict=True):
                torch.testing.assert_close(b, a, atol=1e-6, rtol=1e-6)
    assert len(one["history"]) == 2
    for record, *others in zip(one["history"], first["history"], second["history"], strict=True):
        for other in others:
            assert other == pytest.approx(record, rel=1e-6)
    assert RunFolder(folder / "two", resume=True).load_state()["history"][-1]["epoch"] == 2


def test_an_error_in_one_process_ends_all_with_one_message(folder: Path, run_one: Make) -> None:
    run_one(folder, folder / "run", 1)
    targets = result(folder, "targets")
    targets["train"].pop()
    torch.save(targets, folder / "targets.pt")
    (code, message), (other_code, other_message) = run_two(folder, folder / "run", "2")
    assert (code, other_code) == (1, 1)
    assert "Error" not in other_message
    assert "vis4mer.errors.ConfigError: data: has changed since the start of the run" in message.splitlines()[-1]


@pytest.mark.parametrize(("length", "batch_size", "count"), [(9, 4, 2), (16, 4, 4), (5, 3, 8), (1, 1, 2)])
def test_shares_are_parts_of_the_batches_of_one(length: int, batch_size: int, count: int) -> None:
    everyone = []
    for rank in range(count):
        torch.manual_seed(0)
        shares = BatchShares(length, batch_size, Processes(rank, rank, count))
        items = list(shares)
        assert len(shares) == len(items)
        assert all(len(share) == max(1, shares.own(step)) for step, share in enumerate(items))
        everyone.append([share[: shares.own(step)] for step, share in enumerate(items)])
    torch.manual_seed(0)
    alone = list(BatchShares(length, batch_size, Processes()))
    assert sorted(item for batch in alone for item in batch) == list(range(length))
    for batch, *parts in zip(alone, *everyone, strict=True):
        assert sorted(itertools.chain(*parts)) == sorted(batch)


def test_the_parts_of_all_processes_cover_the_range() -> None:
    parts = [Processes(rank, rank, 3).part(8) for rank in range(3)]
    assert [list(part) for part in parts] == [[0, 1], [2, 3, 4], [5, 6, 7]]


def test_each_process_draws_its_own_dropout() -> None:
    draws = []
    for rank in range(2):
        torch.manual_seed(0)
        list(BatchShares(4, 2, Processes(rank, rank, 2)))
        draws.append(torch.rand(()).item())
    assert draws[0] != draws[1]
