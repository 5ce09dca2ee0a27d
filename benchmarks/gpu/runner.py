"""Runs steps one after the other. Each has a time limit, a log file and a verdict; none stops the others."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from benchmarks.gpu.figures import ROOT
from benchmarks.gpu.step import Command, Figures, Step
from benchmarks.harness.progress import progress, show
from vis4mer.text import clock, first_line

Verdict = Literal["passed", "failed", "timed out", "missing", "no time", "interrupted"]
"""``missing``: the step needs something that is absent. ``no time``: the time budget left is too short for it."""

# Verdicts that --resume keeps. A failed step is complete too: to run it again, name it with --only.
FINAL: tuple[Verdict, ...] = ("passed", "failed")

Record = dict[str, Any]
"""Result of a step, as in the result file: name, verdict, reason, seconds, commands, figures, and log_tail."""

_TAIL_LINES = 40
_GRACE_SECONDS = 10.0  # between the request to end and the kill


def run(
    steps: Sequence[Step],
    records: dict[str, Record],
    folder: Path,
    save: Callable[[], None],
    *,
    budget: float | None = None,
) -> None:
    """Runs steps and stores the record of each as soon as it is known.

    Args:
        steps: Steps to run, in order.
        records: Records by the name of the step, of earlier runs too; changed in place.
        folder: Folder for the log files.
        save: Writes `records` to the result file.
        budget: Seconds for all steps together; None for no limit.
    """
    deadline = None if budget is None else time.monotonic() + budget
    width = max(len(step.name) for step in steps)
    for step in progress(steps, lambda step: step.name, weight=lambda step: step.expected):
        records[step.name] = _record(step, "interrupted", "the run was stopped")
        try:
            record = records[step.name] = _run_step(step, records, folder, deadline)
        finally:  # also where the run is interrupted
            save()
        show(f"{step.name:<{width}}  {record['verdict']:<11} {record['seconds']:7.1f} s  {record['reason']}".rstrip())


def _run_step(step: Step, records: Mapping[str, Record], folder: Path, deadline: float | None) -> Record:
    """Returns the record of a step, after running it if it can run."""
    left = step.limit if deadline is None else deadline - time.monotonic()
    if reason := step.missing() or _unmet(step, records):
        return _record(step, "missing", reason)
    if left < step.expected:
        return _record(step, "no time", f"takes about {clock(step.expected)}, {clock(max(left, 0))} are left")
    log = folder / f"{step.name}.log"
    for path in step.outputs:  # or a step that fails would have the figures of an earlier run
        (ROOT / path).unlink(missing_ok=True)
    start = time.monotonic()
    with log.open("wb") as output:
        verdict, reason = _run_commands(step, output, start + min(left, step.limit))
    seconds = time.monotonic() - start
    text = log.read_text("utf-8", errors="replace")
    figures: Figures = {}
    try:
        figures = step.figures(text)
    except Exception as error:  # a step that failed may have written anything, or nothing
        if verdict == "passed":
            verdict, reason = "failed", f"its output cannot be read: {type(error).__name__}: {first_line(error)}"
    record = _record(step, verdict, reason, seconds) | {"figures": dict(figures)}
    return record if verdict == "passed" else record | {"log_tail": _tail(text)}


def _unmet(step: Step, records: Mapping[str, Record]) -> str:
    for name in step.after:
        if records.get(name, {}).get("verdict") != "passed":
            return f"the step {name} has not passed"
    return ""


def _run_commands(step: Step, output: BinaryIO, deadline: float) -> tuple[Verdict, str]:
    for command in step.commands:
        shown = " ".join(_portable(command))
        output.write(f"$ {shown}\n".encode())
        output.flush()
        status = _execute(command, step.environment, output, deadline)
        if status is None:
            return "timed out", f"stopped after its time limit: {shown}"
        if status < 0:
            return "failed", f"ended by {signal.Signals(-status).name}: {shown}"
        if status > 0:
            return "failed", f"exit status {status}: {shown}"
    return "passed", ""


def _execute(command: Command, environment: Mapping[str, str], output: BinaryIO, deadline: float) -> int | None:
    """Returns the exit status of a command, negative for a signal; None if it was stopped at the deadline."""
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be stopped with all processes that it starts
        )
    except OSError as error:
        output.write(f"{error}\n".encode())
        return 127  # as of a shell that cannot find the program
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    finally:  # whether it has ended, is late, or this process is interrupted
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process and all that it has started, also those that outlive it."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of its processes have ended
        os.killpg(group, number)


def _record(step: Step, verdict: Verdict, reason: str, seconds: float = 0.0) -> Record:
    commands = [" ".join(_portable(command)) for command in step.commands]
    return {
        "name": step.name,
        "verdict": verdict,
        "reason": reason,
        "seconds": round(seconds, 1),
        "commands": commands,
    }


def is_final(step: Step, record: Record) -> bool:
    """Returns whether an earlier record is a complete one of the same commands."""
    commands = [" ".join(_portable(command)) for command in step.commands]
    return record.get("verdict") in FINAL and record.get("commands") == commands


def _portable(command: Command) -> Command:
    """Returns a command as it is typed, without this machine's path of Python."""
    return tuple("python" if word == sys.executable else word for word in command)


def _tail(log: str) -> list[str]:
    """Returns the end of a log, without this machine's folders."""
    lines = log.replace(str(ROOT), ".").replace(sys.prefix, "$VIRTUAL_ENV").splitlines()
    return lines[-_TAIL_LINES:]
