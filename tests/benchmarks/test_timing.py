"""Alternatives are timed in turn, and settling runs do not count."""

from functools import partial

import pytest

from benchmarks.measure.timing import medians


@pytest.mark.parametrize(("settled", "turns"), [(False, ["a", "b"] * 3), (True, ["a", "b", *["a", "a", "b", "b"] * 2])])
def test_alternatives_run_in_turn(settled: bool, turns: list[str]) -> None:
    ran: list[str] = []
    seconds = medians({name: partial(ran.append, name) for name in ("a", "b")}, 2, settled=settled)
    assert ran == turns
    assert set(seconds) == {"a", "b"}
