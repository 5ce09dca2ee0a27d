"""Peak memory counts the most that a call holds at once, and nothing that was held before."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.measure.memory import peak_bytes

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _importable_in_the_measured_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process imports this module by the name that pytest gave it, and inherits the path."""
    monkeypatch.syspath_prepend(Path(__file__).parents[__name__.count(".")])


def prepare_fill(held: int, taken: int) -> Callable[[], None]:
    return partial(fill, torch.ones(held, dtype=torch.uint8), taken)


def fill(held: torch.Tensor, taken: int) -> None:
    for _ in range(3):  # one after the other, never two at once
        torch.ones(taken, dtype=torch.uint8)


def test_peak_of_one_call() -> None:
    peak = peak_bytes(prepare_fill, 300 * MEGABYTE, 200 * MEGABYTE)
    assert 199 * MEGABYTE <= peak <= 220 * MEGABYTE


def prepare_pieces(count: int) -> Callable[[], None]:
    return partial(pieces, count)


def pieces(count: int) -> None:
    """Allocates small blocks that are kept, between large ones that are freed."""
    kept = []
    for _ in range(count):
        large = torch.ones(8 * MEGABYTE, dtype=torch.uint8)
        kept.append(torch.ones(100_000, dtype=torch.uint8))
        del large


def test_freed_memory_does_not_count() -> None:
    assert peak_bytes(prepare_pieces, 100) <= 40 * MEGABYTE
