"""Disks that run full or fail, folders that cannot be written, and scarce files and memory: one line, nothing lost.

A small library, loaded before the C library, lets the calls that change files fail: each of them in turn once, and in
turn each of them and all that follow, with ENOSPC and with EIO; and all of them with EACCES, as in a folder of another
user. A write that meets a full disk takes half of its bytes first. A full tmpfs, where one can be mounted, a limit of
64 open files, a limit on the size of files and limits on memory are real.

The command must end with an answer, or with exit status 1 and one error line; where memory is scarce, that line may be
GCC's OpenMP's own, which ends the process itself if no thread can be started. Then every file is what it was before, or
what a complete run writes; files of others are untouched; nothing is left over unless the disk refuses to remove it;
and the same command, on a disk that works, writes what an undisturbed run writes and removes all leftovers.

    python -m tests.campaigns.disk                                 # every call of every command, all conditions
    python -m tests.campaigns.disk --commands train --every 5      # a fifth of the calls
"""

import ctypes
import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.campaigns import campaign, disk_shim
from tests.campaigns.campaign import Trial
from tests.campaigns.commands import (
    COMMANDS,
    TIME_LIMIT,
    Command,
    Expected,
    counted_calls,
    expectations,
    foreign_problem,
    leftovers,
    place_foreign_files,
    second_run_problem,
)
from tests.campaigns.disk_shim import Kind, Mode
from tests.campaigns.isolation import Ending, isolated

OUTCOMES = ("refused", "completed")
# A file can be removed from a full disk, but from one that fails nothing can be.
_FULL = Kind.WRITE | Kind.FLUSH | Kind.OPEN | Kind.FOLDER
_NO_THREAD = "libgomp: Thread creation failed"
_INJECTED = Kind.WRITE | Kind.FLUSH | Kind.RENAME | Kind.OPEN | Kind.FOLDER
_NEW_MOUNTS = 0x20000  # CLONE_NEWNS of Linux's headers
_LARGE = "64m"
_FREE_BYTES = (4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576)
# With less, CPython itself hangs: it waits for a new thread that lacks the memory to begin.
_MEMORY_MEGABYTES = (4, 8, 16, 24, 32, 48, 64, 80, 100, 120, 150, 200, 300, 400, 600, 800, 1000)
# The smallest still holds the command's messages, which go to files too.
_FILE_BYTES = (10_000, 30_000, 100_000, 300_000, 1_000_000)


def _nothing(output: Path) -> None:
    """Changes nothing; unlike a lambda, it can be sent to another process."""


@dataclass(frozen=True)
class Condition:
    """What a command meets.

    Attributes:
        name: Name in the table.
        detail: What distinguishes it from others of its name.
        begin: Function that brings it about in the command's process, given the folder of the output.
        refuses_removal: Whether leftovers may remain, because the disk does not let them be removed.
        must_refuse: Whether the command may not succeed.
        free_bytes: Free bytes of the tmpfs that holds the output; None for no such file system.
    """

    name: str
    detail: str
    begin: Callable[[Path], None] = _nothing
    refuses_removal: bool = False
    must_refuse: bool = False
    free_bytes: int | None = None


def _arm(mode: Mode, kinds: Kind, at: int, error: int, output: Path) -> None:
    disk_shim.arm(output, mode, kinds, at, error)


def _limit(what: int, value: int, output: Path) -> None:
    resource.setrlimit(what, (value, value))


def _limit_memory(megabytes: int, output: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _limit(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 1_000_000, output)


def can_mount() -> bool:
    """Lets this process mount file systems in its own view alone; returns whether it may."""
    libc = ctypes.CDLL(None)
    if libc.unshare(_NEW_MOUNTS) != 0:
        return False
    # Otherwise the mounts would appear outside too, where folders are shared.
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode == 0


@contextmanager
def _tmpfs(folder: Path) -> Iterator[None]:
    """Mounts a tmpfs over a new folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_LARGE}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _resize(folder: Path, free_bytes: int | None) -> None:
    """Leaves so many free bytes in a tmpfs; None for many."""
    status = os.statvfs(folder)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    size = _LARGE if free_bytes is None else str(used + free_bytes)
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def conditions(command: Command, every: int, mounts: bool, scratch: Path) -> Iterator[Condition]:
    """Yields the conditions that a command meets.

    Args:
        command: The command.
        every: Share of the calls that fail: one in so many.
        mounts: Whether file systems can be mounted.
        scratch: Folder with the folders ``inputs`` and ``logs``.
    """
    yield Condition("64 open files", "", partial(_limit, resource.RLIMIT_NOFILE, 64))
    for free_bytes in _FREE_BYTES if mounts else ():
        yield Condition("full tmpfs", f"{free_bytes} bytes free", free_bytes=free_bytes)
    for size in _FILE_BYTES:
        yield Condition("file size", f"{size} bytes", partial(_limit, resource.RLIMIT_FSIZE, size))
    for megabytes in _MEMORY_MEGABYTES:
        yield Condition("memory", f"{megabytes} MB more", partial(_limit_memory, megabytes))
    if not disk_shim.is_loaded():
        return
    denied = partial(_arm, Mode.FAIL_ON, Kind.all(), 1, errno.EACCES)
    yield Condition("EACCES", "from the first call on", denied, refuses_removal=True, must_refuse=True)
    for name, error, kinds in (("ENOSPC", errno.ENOSPC, _FULL), ("EIO", errno.EIO, _INJECTED)):
        for mode, words in ((Mode.FAIL_ONCE, "at call"), (Mode.FAIL_ON, "from call")):
            calls = counted_calls(command, kinds, scratch)
            for at in range(1, calls + 1, every):
                refuses = mode == Mode.FAIL_ON and error == errno.EIO
                begin = partial(_arm, mode, kinds, at, error)
                yield Condition(f"{name} {words}", f"{at} of {calls}", begin, refuses_removal=refuses)


@dataclass(frozen=True)
class Subject:
    """A command that meets conditions.

    Attributes:
        name: Name of the command.
        scratch: Folder with the folders ``inputs`` and ``logs``.
        expected: What it may leave.
    """

    name: str
    scratch: Path
    expected: Expected

    @property
    def command(self) -> Command:
        """The command, which cannot be sent to another process itself."""
        return COMMANDS[self.name]

    def attempt(self, condition: Condition, *, older: bool) -> Trial:
        """Runs the command under a condition, and then without it."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder, ExitStack() as mounted:
            output = Path(folder) / "output"
            if condition.free_bytes is not None:
                mounted.enter_context(_tmpfs(output))
            return self._attempt(condition, output, older)

    def _attempt(self, condition: Condition, output: Path, older: bool) -> Trial:
        inputs, logs = self.scratch / "inputs", self.scratch / "logs"
        place_foreign_files(output)
        if self.command.older and older:
            self.command.older(inputs, output)
        before = self.command.units(output)
        if condition.free_bytes is not None:
            _resize(output, condition.free_bytes)

        def limited() -> int:
            condition.begin(output)
            return self.command.run(inputs, output)

        ending = isolated(limited, TIME_LIMIT, logs)
        problem = self._message_problem(ending, condition) or self._problem(ending, condition, before, output)
        if condition.free_bytes is not None:
            _resize(output, None)
        if not problem:
            again = isolated(lambda: self.command.run(inputs, output, again=True), TIME_LIMIT, logs)
            problem = second_run_problem(self.command, self.expected, again, output)
        outcome = "refused" if ending.status else "completed"
        detail = f"{condition.detail}{', over an older output' if older else ''}"
        return Trial((self.name, condition.name), detail, outcome, problem, ending.seconds, ending.peak_bytes)

    def _message_problem(self, ending: Ending, condition: Condition) -> str:
        if problem := campaign.failure(ending):
            return problem
        known = ("vis4mer: error:", _NO_THREAD) if condition.name == "memory" else ("vis4mer: error:",)
        lines = [line for line in ending.stderr.splitlines() if line]
        errors = sum(line.startswith(known) for line in lines)
        if ending.status == 1 and not 1 <= errors <= self.command.movies:
            return f"prints {errors} error lines"
        # Training reports each epoch on a line of its own.
        foreign = [line for line in lines if not line.startswith(("vis4mer: ", "epoch ", *known))]
        return f"prints {foreign[0]!r}" if foreign else ""

    def _problem(self, ending: Ending, condition: Condition, before: dict[str, str], output: Path) -> str:
        try:
            units = self.command.units(output)
        except Exception as error:  # a file that is damaged may raise anything
            return f"a damaged file: {error}"
        if ending.status == 0:
            if condition.must_refuse:
                return "succeeds"
            problem = self.expected.final_problem(units)
        else:
            problem = self.expected.cut_off_problem(before, units)
        left = [] if condition.refuses_removal else leftovers(output)
        return problem or foreign_problem(output) or (f"leaves {left[0]}" if left else "")


def _attempts(task: tuple[Subject, Sequence[tuple[Condition, bool]]]) -> list[Trial]:
    subject, share = task
    return [subject.attempt(condition, older=older) for condition, older in share]


def trials(names: Sequence[str], every: int, jobs: int, scratch: Path) -> Iterator[Trial]:
    """Runs the campaign.

    Args:
        names: Names of commands.
        every: Share of the calls that fail: one in so many.
        jobs: Processes at once.
        scratch: Empty folder.
    """
    mounts = can_mount()
    for missing, reason in (
        (not disk_shim.is_loaded(), disk_shim.NO_COMPILER),
        (not mounts, "no tmpfs can be mounted"),
    ):
        if missing:
            print(f"left out: {reason}", file=sys.stderr)
    tasks, total, share = [], 0, 5  # trials of a task: small enough that progress is shown often
    for name, expected in expectations(names, scratch).items():
        subject = Subject(name, scratch, expected)
        # Every second trial is over an older output.
        met = [(c, bool(i % 2)) for i, c in enumerate(conditions(subject.command, every, mounts, scratch))]
        tasks += [(subject, met[first : first + share]) for first in range(0, len(met), share)]
        total += len(met)
    yield from campaign.in_processes(_attempts, tasks, total, jobs)


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    disk_shim.restart_with_shim()
    parser = campaign.parser(__doc__)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="let one call in N fail")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = trials(options.commands, options.every, options.jobs, Path(folder).resolve())
        rows = campaign.table(("command", "condition"), OUTCOMES, done)
    sys.exit(campaign.finish("disk", __doc__, rows, options.output))


if __name__ == "__main__":
    main()
