"""SIGKILL at random instants: what a killed command leaves is whole or absent, and the next run completes it.

Each command is killed hundreds of times: half of the instants are spread evenly over its duration, a quarter hit it
just before or after one of the calls that change files, and a quarter before or after one of those that complete
something, such as a rename, where a gap between two steps would show. Then every bundle and every other file is absent,
what it was before the run, or byte for byte what a complete run writes; files of others are untouched; and the same
command, for training with ``--resume``, ends with the bytes of an undisturbed run and without leftovers. In half of the
trials, ``export`` and ``run`` replace an older output.

    python -m tests.campaigns.kills                                # 200 kills of each command
    python -m tests.campaigns.kills --count 20 --commands train
"""

import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    place_foreign_files,
    second_run_problem,
)
from tests.campaigns.disk_shim import Kind, Mode
from tests.campaigns.isolation import Ending, isolated

OUTCOMES = ("unchanged", "between", "complete")
# All calls that change files, and those that complete something.
KINDS = (Kind.all(), Kind.RENAME | Kind.FLUSH | Kind.FOLDER | Kind.REMOVE)
KILLED = ("export", "extract", "train", "run")


@dataclass(frozen=True)
class Subject:
    """A command that is killed repeatedly.

    Attributes:
        name: Name of the command.
        scratch: Folder with the folders ``inputs`` and ``logs``.
        expected: What it may leave.
        calls: Number of its calls that change files, by their kinds; empty if they cannot be counted.
    """

    name: str
    scratch: Path
    expected: Expected
    calls: Mapping[Kind, int]

    @property
    def command(self) -> Command:
        """The command, which cannot be sent to another process itself."""
        return COMMANDS[self.name]

    def attempt(self, seed: int) -> Trial:
        """Kills the command once and completes its work."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            return self._attempt(seed, Path(folder) / "output")

    def _attempt(self, seed: int, output: Path) -> Trial:
        rng = random.Random(f"{self.name} {seed}")
        place_foreign_files(output)
        if self.command.older and seed % 2:
            self.command.older(self.scratch / "inputs", output)
        before = self.command.units(output)
        ending, instant = self._killed(rng, output)
        problem, units = self._cut_off_problem(ending, before, output)
        again = isolated(self._run(output, again=True), TIME_LIMIT, self.scratch / "logs")
        problem = (
            problem
            or campaign.failure(again, command=True)
            or second_run_problem(self.command, self.expected, again, output)
        )
        outcome = "unchanged" if units == before else "complete" if units == self.expected.final else "between"
        return Trial((self.name,), f"seed {seed}, {instant}", outcome, problem, ending.seconds, again.peak_bytes)

    def _killed(self, rng: random.Random, output: Path) -> tuple[Ending, str]:
        """Runs the command until it is killed; returns its ending and the instant in words."""
        logs, run = self.scratch / "logs", self._run(output)
        if self.calls and rng.random() < 0.5:
            kinds, mode = rng.choice(KINDS), rng.choice((Mode.KILL_BEFORE, Mode.KILL_AFTER))
            at = rng.randint(1, self.calls[kinds])

            def armed() -> int:
                disk_shim.arm(output, mode, kinds, at)
                return run()

            instant = f"{mode.name.lower().replace('_', ' ')} {at} of {self.calls[kinds]} calls ({kinds!r})"
            return isolated(armed, TIME_LIMIT, logs), instant
        seconds = rng.uniform(0, self.expected.seconds)
        return isolated(run, seconds, logs), f"after {seconds:.3f} s"

    def _run(self, output: Path, *, again: bool = False) -> Any:
        return lambda: self.command.run(self.scratch / "inputs", output, again=again)

    def _cut_off_problem(self, ending: Ending, before: dict[str, str], output: Path) -> tuple[str, dict[str, str]]:
        # The first of these is the kill itself; the command may also have finished before it.
        if ending.signal != "SIGKILL" and ending.status != 0:
            return f"ended before the kill: {ending.signal or ending.stderr.strip()}", {}
        try:
            units = self.command.units(output)
        except Exception as error:  # a file that is damaged may raise anything
            return f"a damaged file: {error}", {}
        return self.expected.cut_off_problem(before, units) or foreign_problem(output), units


def _attempts(task: tuple[Subject, range]) -> list[Trial]:
    subject, seeds = task
    return [subject.attempt(seed) for seed in seeds]


def trials(names: Sequence[str], count: int, jobs: int, scratch: Path) -> Iterator[Trial]:
    """Runs the campaign.

    Args:
        names: Names of commands.
        count: Kills of each command.
        jobs: Processes at once.
        scratch: Empty folder.
    """
    subjects = []
    for name, expected in expectations(names, scratch).items():
        kinds = KINDS if disk_shim.is_loaded() else ()
        calls = {kind: counted_calls(COMMANDS[name], kind, scratch) for kind in kinds}
        subjects.append(Subject(name, scratch, expected, calls))
    share = 5  # kills of a task: small enough that progress is shown often
    tasks = [
        (subject, range(first, min(first + share, count))) for subject in subjects for first in range(0, count, share)
    ]
    yield from campaign.in_processes(_attempts, tasks, count * len(subjects), jobs)


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    disk_shim.restart_with_shim()
    parser = campaign.parser(__doc__)
    parser.add_argument("--count", type=int, default=200, help="kills of each command")
    parser.add_argument("--commands", nargs="+", choices=KILLED, default=list(KILLED))
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    options = parser.parse_args()
    if not disk_shim.is_loaded():
        print(f"left out: kills at calls, because {disk_shim.NO_COMPILER}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        rows = campaign.table(
            ("command",), OUTCOMES, trials(options.commands, options.count, options.jobs, Path(folder).resolve())
        )
    sys.exit(campaign.finish("kills", __doc__, rows, options.output))


if __name__ == "__main__":
    main()
