"""Runs a function in a forked process of its own and reports how the process ended."""

import faulthandler
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# A process that asks for more address space fails at once instead of driving the machine into swapping.
_ADDRESS_SPACE_BYTES = 8 << 30


@dataclass(frozen=True)
class Ending:
    """How an isolated call ended.

    Attributes:
        status: Exit status of the process; None after a signal.
        signal: Name of the signal that ended the process, such as ``SIGSEGV``; empty if it exited.
        timed_out: Whether the process was killed at the time limit.
        seconds: Wall time.
        peak_bytes: Largest resident set of the process.
        stdout: Text that the process wrote to stdout.
        stderr: Text that the process wrote to stderr.
    """

    status: int | None
    signal: str
    timed_out: bool
    seconds: float
    peak_bytes: int
    stdout: str
    stderr: str


def isolated(
    call: Callable[[], int], time_limit: float, folder: Path, each_second: Callable[[], object] = lambda: None
) -> Ending:
    """Calls a function in a child process.

    The child is forked, so that it need not import anything again: thousands of inputs then take minutes, not hours.
    The caller must therefore run no threads of its own.

    Args:
        call: Function to call; its result is the exit status. An exception prints a traceback and exits with 70.
        time_limit: Seconds after which the child is killed.
        folder: Folder for the child's output.
        each_second: Called about once a second while the child runs, to show progress.
    """
    with tempfile.TemporaryFile(dir=folder) as stdout, tempfile.TemporaryFile(dir=folder) as stderr:
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            _child(call, stdout.fileno(), stderr.fileno())
        status, usage, timed_out = _wait(process, started + time_limit, each_second)
        seconds = time.monotonic() - started
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    ended_by = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    return Ending(code, ended_by, timed_out, seconds, usage.ru_maxrss * 1024, *texts)


def _child(call: Callable[[], int], stdout: int, stderr: int) -> None:
    """Runs the call and ends the process without the parent's exit handlers."""
    status = 70
    try:
        faulthandler.disable()  # the signal is reported; a test runner's handler would print every thread too
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Python's own streams may wrap a file of the test runner; these are the child's.
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        status = call()
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            # Whatever happens, the child must not return: it would run its parent's code.
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def _wait(process: int, deadline: float, each_second: Callable[[], object]) -> tuple[int, resource.struct_rusage, bool]:
    descriptor = os.pidfd_open(process)
    ready: list[int] = []
    try:
        while not ready and (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([descriptor], [], [], min(1.0, left))
            each_second()
    finally:
        os.close(descriptor)
    if not ready:
        os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    return status, usage, not ready
