"""Progress of long work: one line on stderr with the share that is done and the time left.

The line is rewritten when a step begins. A thread that refreshed it in between would disturb what is being timed.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from vis4mer.text import clock

T = TypeVar("T")

# Between two lines where stderr is a file, which keeps them all.
_FILE_INTERVAL_SECONDS = 30.0
_ERASE_LINE = "\r\x1b[2K"


class _Loop:
    """One loop under way.

    Attributes:
        total: Weight of all steps.
        done: Weight of the steps that are over.
        step: Weight of the step under way.
        label: Description of the step under way.
        start: When the loop began, on the clock `time.monotonic`, in seconds.
    """

    def __init__(self, total: float) -> None:
        self.total, self.done, self.step, self.label = total, 0.0, 0.0, ""
        self.start = time.monotonic()


# Nested loops, outermost first: an inner loop is a part of the outer loop's step.
_loops: list[_Loop] = []
_last_written = -_FILE_INTERVAL_SECONDS


def progress(
    items: Iterable[T],
    label: Callable[[T], str] = str,
    *,
    weight: Callable[[T], float] = lambda item: 1.0,
    total: float | None = None,
) -> Iterator[T]:
    """Yields the items and shows the progress of the loop over them.

    Args:
        items: Steps of the work. A collection, unless `total` is given.
        label: Returns the description of a step.
        weight: Returns the expected cost of a step, in any unit.
        total: Weight of all steps; by default, computed from `items`.
    """
    if total is None:
        items = items if isinstance(items, Sized) else list(items)
        total = sum(weight(item) for item in items)
    loop = _Loop(max(total, 1e-9))
    _loops.append(loop)
    try:
        for item in items:
            loop.label, loop.step = label(item), weight(item)
            _write_status()
            yield item
            loop.done += loop.step
    finally:
        _loops.remove(loop)
        if not _loops:
            _erase_status()


def show(line: str = "") -> None:
    """Prints a line of the table on stdout, in the place of the progress line where both are on one screen."""
    _erase_status()
    print(line, flush=True)


def status() -> str:
    """Returns the share that is done, the time left and the labels of the steps under way; empty between loops."""
    if not _loops:
        return ""
    share = 0.0
    for loop in reversed(_loops):
        share = min(1.0, (loop.done + loop.step * share) / loop.total)
    labels = ": ".join(loop.label for loop in _loops)
    left = ""
    if share > 0:
        elapsed = time.monotonic() - _loops[0].start
        left = f", {clock(elapsed * (1 - share) / share)} left"
    return f"[{share:4.0%}{left}] {labels}"


def _write_status() -> None:
    global _last_written
    if sys.stderr.isatty():
        print(f"{_ERASE_LINE}{status()}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() - _last_written >= _FILE_INTERVAL_SECONDS:
        _last_written = time.monotonic()
        print(status(), file=sys.stderr, flush=True)


def _erase_status() -> None:
    if sys.stderr.isatty():
        print(_ERASE_LINE, end="", file=sys.stderr, flush=True)
