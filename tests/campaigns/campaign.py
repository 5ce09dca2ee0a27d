"""What the campaigns share: the limits of a trial, progress, the table of outcomes and its JSON."""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.harness.machine import machine
from tests.campaigns.isolation import Ending

ROOT = Path(__file__).parents[2]
HANG_SECONDS, MOST_BYTES = 60, 1_000_000_000

Task = TypeVar("Task")


@dataclass(frozen=True)
class Trial:
    """One input and what became of it.

    Attributes:
        row: Values of the columns that identify the row of the table, such as ``("run", "mp4")``.
        name: Name from which the input can be made again, such as ``seed 17``.
        outcome: One of the outcomes that the campaign allows; ignored if there is a problem.
        problem: Why the trial failed; empty if it did not.
        seconds: Wall time.
        peak_bytes: Largest resident set of the process; 0 if it was not measured.
    """

    row: tuple[str, ...]
    name: str
    outcome: str
    problem: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


def failure(ending: Ending, *, command: bool = False) -> str:
    """Returns why an ending is a failure, or an empty string: a refusal, which is exit status 1, is none.

    Args:
        ending: Ending of the process.
        command: Whether the process ran one of the commands, which reports a refusal by exactly one error line.
    """
    if ending.timed_out:
        return f"runs for more than {HANG_SECONDS} s"
    if ending.signal:
        return f"ended by {ending.signal}"
    if ending.status not in (0, 1):
        return f"exit status {ending.status}: {ending.stderr.strip().splitlines()[-1:]}"
    if ending.peak_bytes > MOST_BYTES:
        return f"takes {ending.peak_bytes / 1e6:.0f} MB"
    if "Traceback" in ending.stderr:
        return f"prints a traceback: {ending.stderr.strip().splitlines()[-1]}"
    errors = [line for line in ending.stderr.splitlines() if line.startswith("vis4mer: error:")]
    if command and ending.status == 1 and len(errors) != 1:
        return f"prints {len(errors)} error lines"
    return ""


def in_processes(
    work: Callable[[Task], Sequence[Trial]], tasks: Sequence[Task], total: int, jobs: int
) -> Iterator[Trial]:
    """Runs tasks in forked processes and yields their trials, with a line of progress on stderr.

    Args:
        work: Function that makes the trials of one task.
        tasks: Tasks, small enough that progress is shown often.
        total: Number of trials of all tasks.
        jobs: Number of processes at once.
    """
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from with_progress((trial for trials in pool.imap(work, tasks) for trial in trials), total)


def with_progress(trials: Iterable[Trial], total: int) -> Iterator[Trial]:
    """Yields trials while a line on stderr shows how many are done and how long the others take.

    Args:
        trials: Trials as they end.
        total: Number of trials.
    """
    started = time.monotonic()
    for done, trial in enumerate(trials, start=1):
        left = (time.monotonic() - started) / done * (total - done)
        print(f"{done} of {total}, {left:.0f} s left ", end="\r", file=sys.stderr, flush=True)
        yield trial
    print(file=sys.stderr)


@dataclass
class _Row:
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, trial: Trial) -> None:
        self.outcomes["failed" if trial.problem else trial.outcome] += 1
        if trial.problem:
            self.failures.append(f"{trial.name}: {trial.problem}")
        self.slowest = max(self.slowest, trial.seconds)
        self.largest = max(self.largest, trial.peak_bytes)


def table(keys: Sequence[str], outcomes: Sequence[str], trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Counts trials by row.

    Args:
        keys: Names of the columns that identify a row, in the order of `Trial.row`.
        outcomes: Outcomes that the campaign allows.
        trials: Trials in any order.

    Returns:
        One row for each distinct `Trial.row`, in the order of their first trials: the keys, then ``tried``, a count for
        each outcome, ``failed``, ``slowest_seconds``, ``peak_megabytes`` and ``failures``.
    """
    rows: dict[tuple[str, ...], _Row] = {}
    for trial in trials:
        rows.setdefault(trial.row, _Row()).add(trial)
    return [
        {
            **dict(zip(keys, identity, strict=True)),
            "tried": row.outcomes.total(),
            **{outcome: row.outcomes[outcome] for outcome in outcomes},
            "failed": row.outcomes["failed"],
            "slowest_seconds": round(row.slowest, 2),
            "peak_megabytes": round(row.largest / 1e6),
            "failures": sorted(row.failures),
        }
        for identity, row in rows.items()
    ]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a campaign's command, with the option that all of them have.

    Args:
        description: Docstring of the campaign's module.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--output", type=Path, help="JSON file for the rows")
    return made


def finish(module: str, description: str | None, rows: Sequence[dict[str, Any]], output: Path | None) -> int:
    """Prints the rows as a Markdown table, with the failures below it, and writes them as JSON.

    Args:
        module: Name of the campaign's module under ``tests.campaigns``, for the command that the JSON records.
        description: Docstring of the module.
        rows: Rows as `table` returns them.
        output: JSON file; None for none.

    Returns:
        The command's exit status: 1 if any trial failed, else 0.
    """
    print(markdown(rows))
    for row in rows:
        for line in row["failures"]:
            print(f"{' '.join(value for value in row.values() if isinstance(value, str))}: {line}")
    if output:
        facts = {"machine": machine(), "date": datetime.now(UTC).date().isoformat()}
        values = {"command": _command(module), "description": description, **facts, "rows": rows}
        output.write_text(json.dumps(values, indent=2) + "\n")
    return int(any(row["failed"] for row in rows))


def _command(module: str) -> str:
    """Returns the command line that is running, without the options that name places on this machine."""
    arguments = sys.argv[1:]
    for option in ("--output", "--failures"):
        if option in arguments:
            place = arguments.index(option)
            del arguments[place : place + 2]
    return " ".join(["python -m", f"tests.campaigns.{module}", *arguments])


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns rows as a Markdown table without the texts of the failures."""
    columns = [name for name in rows[0] if name != "failures"] if rows else []
    titles = [name.replace("_seconds", ", s").replace("_megabytes", ", MB").replace("_", " ") for name in columns]
    cells = [
        titles,
        *([f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in columns] for row in rows),
    ]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(columns))]
    numeric = [not isinstance(rows[0][name], str) for name in columns]
    lines = [
        " | ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        for line in cells
    ]
    rule = " | ".join("-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
