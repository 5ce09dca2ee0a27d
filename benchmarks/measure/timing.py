"""Median times of alternatives that run in turn within one process."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from benchmarks.harness.progress import progress

Key = TypeVar("Key", bound=Hashable)


def medians(
    alternatives: Mapping[Key, Callable[[], object]], repeats: int = 5, *, settled: bool = False
) -> dict[Key, float]:
    """Times alternatives in turn, so a change in the machine's speed affects all of them alike.

    A first round, not counted, loads libraries and fills caches.

    Args:
        alternatives: Calls to time, by name.
        repeats: Number of measurements of each.
        settled: Whether each call runs once before every measurement, so that the caches and the C library's free
            memory are as in a process that does nothing else.

    Returns:
        Median seconds of each alternative.
    """
    times: dict[Key, list[float]] = {name: [] for name in alternatives}
    for repeat in progress(range(repeats + 1), lambda repeat: f"run {repeat} of {repeats}" if repeat else "warm-up"):
        for name, run in alternatives.items():
            if repeat == 0:
                run()
                continue
            if settled:
                run()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}
