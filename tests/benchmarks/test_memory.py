"""Peak memory counts what a call held at its worst, and nothing that was there before."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from memory import peak_bytes

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _importable_in_the_measured_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports this module by the name that pytest gave it, and inherits the path."""
    monkeypatch.syspath_prepend(Path(__file__).parents[__name__.count(".")])


def prepare_fill(held: int, taken: int) -> Callable[[], None]:
    return partial(fill, torch.ones(held, dtype=torch.uint8), taken)


def fill(held: torch.Tensor, taken: int) -> None:
    for _ in range(3):  # one after another, never two at once
        torch.ones(taken, dtype=torch.uint8)


def test_peak_of_one_call() -> None:
    peak = peak_bytes(prepare_fill, 300 * MEGABYTE, 200 * MEGABYTE)
    assert 199 * MEGABYTE <= peak <= 220 * MEGABYTE


def prepare_pieces(count: int) -> Callable[[], None]:
    return partial(pieces, count)


def pieces(count: int) -> None:
    """Small blocks that stay, between large ones that are freed."""
    kept = []
    for _ in range(count):
        large = torch.ones(8 * MEGABYTE, dtype=torch.uint8)
        kept.append(torch.ones(100_000, dtype=torch.uint8))
        del large


def test_what_was_freed_does_not_count() -> None:
    assert peak_bytes(prepare_pieces, 100) <= 40 * MEGABYTE
