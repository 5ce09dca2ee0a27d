"""Timing that the benchmarks share: alternatives in turn, medians, and the machine beside the figures."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def medians(
    alternatives: Mapping[str, Callable[[], object]], repeats: int = 5, *, settled: bool = False
) -> dict[str, float]:
    """Median seconds of each alternative, run in turn so that a drift of the machine's speed meets all alike.

    Args:
        alternatives: by name.
        repeats: times that each is measured.
        settled: lets each run once before every measurement: the caches, and the memory that the C library has at
            hand, are then as in a process that does nothing else.
    """
    for run in alternatives.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(repeats):
        for name, run in alternatives.items():
            if settled:
                run()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def machine(**versions: str) -> dict[str, Any]:
    """What the figures were measured on."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return {"cpu": cpu, "threads": os.cpu_count(), "python": platform.python_version(), **versions}


def save(name: str, result: Mapping[str, Any]) -> None:
    """Writes results/`name`.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {path.relative_to(Path(__file__).parents[1])}")


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
