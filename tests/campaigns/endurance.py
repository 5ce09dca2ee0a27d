"""Endurance: thousands of classifications in one process neither grow nor change their answers.

A scenario is one process that loads a model once and classifies in turn a small movie, one with large pictures, a
damaged one, a file that ends in mid-movie, a text file and a missing one; now and then it draws a timeline. It fails if

- an answer, or the error of a file that cannot be classified, differs from the first one for that file;
- the resident set grows by more than 10 MB, or what the C library counts as allocated by more than 5 MB, after the
  warm-up: the first thousand measurements or, of fewer than 2,000, the first half;
- the number of open files or of threads changes after the warm-up.

Memory is measured between classifications, or between rounds of those that run at once, and compared by the medians of
its first and its last hundred values. A single value depends on what the C library and the garbage collector happen to
hold at that moment, which varies by megabytes from one to the next.

The warm-up lasts until the C library's arenas are full. It gives a thread an arena of its own, up to eight for each
processor, and each keeps memory that was freed, as much as its threads once used at the same time. A leak takes that
memory first, so the resident set shows it late, and what is allocated at once. ONNX Runtime keeps what it once needed
too: its memory grows by a few megabytes whenever more threads than before happen to run a graph at the same moment.

The controls repeat the first scenario with a leak: of 2 kB of memory after each of 10,000 classifications, or of a file
and a thread now and then. They fail if the leak is not noticed.

    python -m tests.campaigns.endurance                                    # 10,000 classifications in each process
    python -m tests.campaigns.endurance --count 500 --scenarios bundle
"""

import ctypes
import dataclasses
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import vis4mer
from tests.campaigns.campaign import finish, parser
from tests.campaigns.isolation import isolated
from tests.campaigns.material import write_checkpoint, write_damaged_movie, write_movie
from vis4mer.errors import Vis4merError
from vis4mer.runtime.backends.onnx import import_onnxruntime
from vis4mer.timeline.save import save_timeline

MOST_RESIDENT_GROWTH_BYTES, MOST_ALLOCATED_GROWTH_BYTES = 10_000_000, 5_000_000
THREADS = 8
_SECONDS_EACH = 5  # per classification, after which a process counts as hanging
_TIMELINE_EVERY = 50  # classifications
_MEASURED = ("resident_megabytes", "allocated_megabytes", "files", "threads", "peak_megabytes", "seconds")
_THREAD_END_SECONDS = 0.02  # from a thread's last Python code to its end, on a busy machine
_LEAKED_FILES = 5  # in a whole run of the control, and as many threads


class _MallInfo(ctypes.Structure):
    """The C library's ``struct mallinfo2``, over all arenas; see mallinfo(3)."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in _names]
    uordblks: int  # allocated in arenas
    hblkhd: int  # allocated by mmap


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _MallInfo


@dataclass(frozen=True)
class Usage:
    """What a process holds between two classifications."""

    resident_bytes: int
    allocated_bytes: int
    files: int
    threads: int

    @classmethod
    def now(cls, threads: int) -> "Usage":
        """Measures this process, whose threads have been counted.

        The resident set is that of ``smaps_rollup``, which is exact. The one in ``statm`` is the sum of counters that
        each processor updates only every 32 pages or more.
        """
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
        information = _mallinfo2()
        return cls(kilobytes << 10, information.uordblks + information.hblkhd, _entries("fd"), threads)


def _entries(folder: str) -> int:
    return sum(1 for _ in Path("/proc/self", folder).iterdir())


@dataclass(frozen=True)
class Change:
    """How a process changed between the first and the last hundred classifications after its warm-up.

    Attributes:
        resident_bytes: Difference of the medians of the resident set.
        allocated_bytes: Difference of the medians of what the C library counts as allocated.
        files: Least numbers of open files.
        threads: Least numbers of threads.
    """

    resident_bytes: int
    allocated_bytes: int
    files: tuple[int, int]
    threads: tuple[int, int]

    @classmethod
    def of(cls, usages: Sequence[Usage]) -> "Change":
        """Compares the usages of a process, measured after each of its classifications."""
        warm_up, compared = _parts(len(usages))
        first, last = usages[warm_up:][:compared], usages[-compared:]
        resident, allocated = (
            round(statistics.median(last_values) - statistics.median(first_values))
            for first_values, last_values in (
                ([u.resident_bytes for u in first], [u.resident_bytes for u in last]),
                ([u.allocated_bytes for u in first], [u.allocated_bytes for u in last]),
            )
        )
        files = min(u.files for u in first), min(u.files for u in last)
        threads = min(u.threads for u in first), min(u.threads for u in last)
        return cls(resident, allocated, files, threads)

    def problems(self) -> list[str]:
        """Returns what breaks the rules."""
        problems = []
        for name, growth, most in (
            ("resident set", self.resident_bytes, MOST_RESIDENT_GROWTH_BYTES),
            ("allocated memory", self.allocated_bytes, MOST_ALLOCATED_GROWTH_BYTES),
        ):
            if growth > most:
                problems.append(f"the {name} grows by {growth / 1e6:.1f} MB")
        for name, (first, last) in (("open files", self.files), ("threads", self.threads)):
            if first != last:
                problems.append(f"the number of {name} changes from {first} to {last}")
        return problems


def _parts(count: int) -> tuple[int, int]:
    """Returns how many measurements are the warm-up, and how many to compare at the beginning and the end."""
    warm_up = min(1000, count // 2)
    return warm_up, max(1, min(100, (count - warm_up) // 4))


def write_movies(folder: Path) -> list[Path]:
    """Writes the files that are classified in turn; two of the first for each of the others."""
    small = write_movie(folder / "small.mp4", 4)
    # Two pictures of 3 MB as decoded: what holds on to pictures grows fast.
    large = write_movie(folder / "large.mp4", 1, 1080, 1920)
    damaged = write_damaged_movie(folder / "damaged.mp4", small)
    cut, text, absent = (folder / name for name in ("cut.mp4", "text.mp4", "absent.mp4"))
    cut.write_bytes(small.read_bytes()[:-1500])  # without the index at its end
    text.write_text("no movie\n" * 100)
    others = (large, damaged, cut, text, absent)
    return [movie for other in others for movie in (small, other, small)]


def answer(classifier: vis4mer.Classifier, movie: Path) -> str:
    """Classifies a movie and returns its JSON, or the text of the error."""
    try:
        return json.dumps(classifier(movie).to_dict())
    except Vis4merError as error:
        return f"{type(error).__name__}: {error}"


class Process:
    """What a scenario does in its process.

    Args:
        model: Path of the bundle or checkpoint; None for the sample bundle.
        movies: Files to classify in turn.
        count: Number of classifications.
        folder: Folder for timelines.
        done: Counter of the classifications, shared with the parent process.
    """

    def __init__(self, model: Path | None, movies: Sequence[Path], count: int, folder: Path, done: Any) -> None:
        # Warnings, such as those about short movies, would fill the output.
        logging.getLogger("vis4mer").setLevel(logging.ERROR)
        self._classifier = vis4mer.load(model, device="cpu")
        self._movies, self._count, self._folder, self._done = movies, count, folder, done
        self._expected = {movie: answer(self._classifier, movie) for movie in dict.fromkeys(movies)}
        self._usages: list[Usage] = []
        self._fewest_threads = sys.maxsize
        self._different = 0

    def in_turn(self, after_each: Callable[[], object]) -> None:
        """Classifies one movie after the other in this thread, and draws timelines.

        Args:
            after_each: Called after each classification, for the leaks of the controls.
        """
        for number in range(self._count):
            self._check(self._movies[number % len(self._movies)])
            if number % _TIMELINE_EVERY == 0:
                suffix = (".png", ".html")[number // _TIMELINE_EVERY % 2]
                save_timeline(self._classifier(self._movies[0]), self._folder / f"timeline{suffix}")
            after_each()
            self._measure(number + 1)

    def in_threads(self) -> None:
        """Classifies in several threads at once; the usage is measured while all of them wait."""
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, self._count, THREADS):
                numbers = range(first, min(first + THREADS, self._count))
                list(pool.map(self._check, [self._movies[number % len(self._movies)] for number in numbers]))
                self._measure(numbers.stop)

    def in_new_threads(self) -> None:
        """Classifies each movie in a thread of its own, as many servers do, two at a time."""
        for number in range(0, self._count, 2):
            pair = [self._movies[(number + i) % len(self._movies)] for i in range(min(2, self._count - number))]
            threads = [threading.Thread(target=self._check, args=(movie,)) for movie in pair]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._measure(number + len(pair))

    def report(self) -> dict[str, Any]:
        """Returns the usages and the answers that differ, as JSON."""
        refused = sum("Error: " in self._expected[self._movies[n % len(self._movies)]] for n in range(self._count))
        usages = [dataclasses.astuple(usage) for usage in self._usages]
        return {"usages": usages, "different": self._different, "refused": refused}

    def _measure(self, done: int) -> None:
        self._usages.append(Usage.now(self._threads()))
        self._done.value = done

    def _threads(self) -> int:
        """Counts threads again for a moment if there are more than ever: one that was joined may not have ended yet."""
        deadline = time.monotonic() + _THREAD_END_SECONDS
        while (count := _entries("task")) > self._fewest_threads and time.monotonic() < deadline:
            time.sleep(0.001)
        self._fewest_threads = min(self._fewest_threads, count)
        return count

    def _check(self, movie: Path) -> None:
        if answer(self._classifier, movie) != self._expected[movie]:
            self._different += 1


def _leak_memory(count: int) -> Callable[[], object]:
    """Returns a function that leaks 20 MB between the compared parts: 2 kB a call, if it is called 10,000 times."""
    warm_up, compared = _parts(count)
    size = 2 * MOST_RESIDENT_GROWTH_BYTES // (count - warm_up - compared)
    kept: list[bytearray] = []
    return lambda: kept.append(bytearray(b"x" * size))


@contextmanager
def _leaking_files_and_threads(count: int) -> Iterator[Callable[[], object]]:
    """Yields a function that leaks a file and a thread on some of its calls; leaving the block ends the threads."""
    ended, calls = threading.Event(), iter(range(count))

    def leak() -> None:
        if next(calls) % max(1, count // _LEAKED_FILES) == 0:
            os.open(os.devnull, os.O_RDONLY)
            threading.Thread(target=ended.wait).start()

    try:
        yield leak
    finally:
        ended.set()


def _in_turn(process: Process, count: int) -> None:
    process.in_turn(lambda: None)


def _with_leaked_memory(process: Process, count: int) -> None:
    process.in_turn(_leak_memory(count))


def _with_leaked_files_and_threads(process: Process, count: int) -> None:
    with _leaking_files_and_threads(count) as leak:
        process.in_turn(leak)


@dataclass(frozen=True)
class Scenario:
    """One process of the campaign.

    Attributes:
        title: Title in the table.
        body: Function that classifies, given the process and the number of classifications.
        share: Number of classifications, as a share of the campaign's.
        checkpoint: Whether the model is a checkpoint rather than the sample bundle.
        noticed: Words that the problems must hold; empty for scenarios that must have none.
    """

    title: str
    body: Callable[[Process, int], None] = _in_turn
    share: float = 1.0
    checkpoint: bool = False
    noticed: tuple[str, ...] = ()


SCENARIOS = {
    "bundle": Scenario("sample bundle, one thread"),
    "checkpoint": Scenario("checkpoint, one thread", share=0.2, checkpoint=True),
    "threads": Scenario(f"sample bundle, {THREADS} threads", lambda process, count: process.in_threads()),
    "new-threads": Scenario("sample bundle, a new thread each", lambda process, count: process.in_new_threads()),
    "memory-control": Scenario("control: leaks memory", _with_leaked_memory, noticed=("allocated memory",)),
    "files-control": Scenario(
        "control: leaks files and threads",
        _with_leaked_files_and_threads,
        share=0.1,
        noticed=("open files", "threads"),
    ),
}


def run(name: str, count: int, folder: Path) -> dict[str, Any]:
    """Runs a scenario in a process of its own and returns its row of the table."""
    scenario = SCENARIOS[name]
    count = max(20, round(scenario.share * count))
    result = folder / "result.json"
    done, started = multiprocessing.get_context("fork").Value("q", 0), time.monotonic()

    def show() -> None:
        left = (time.monotonic() - started) * (count - done.value) / max(1, done.value)
        print(f"{name}: {done.value} of {count}, {left:.0f} s left ", end="\r", file=sys.stderr, flush=True)

    ending = isolated(partial(_child, scenario, count, folder, result, done), _SECONDS_EACH * count, folder, show)
    print(file=sys.stderr)
    row: dict[str, Any] = {"scenario": scenario.title, "tried": count}
    if ending.status != 0:
        last_line = (ending.stderr.strip().splitlines() or [f"exit status {ending.status}"])[-1]
        problem = "hangs" if ending.timed_out else ending.signal or last_line
        return {**row, "refused": 0, "failed": 1, **dict.fromkeys(_MEASURED, 0), "failures": [problem]}
    report = json.loads(result.read_text())
    change = Change.of([Usage(*values) for values in report["usages"]])
    problems = change.problems()
    if scenario.noticed:
        failures = [f"does not notice: {word}" for word in scenario.noticed if word not in " ".join(problems)]
    else:
        failures = problems
    if report["different"]:
        failures = [*failures, f"{report['different']} answers differ"]
    return {
        **row,
        "refused": report["refused"],
        "failed": len(failures),
        "resident_megabytes": round(change.resident_bytes / 1e6, 1),
        "allocated_megabytes": round(change.allocated_bytes / 1e6, 1),
        "files": change.files[1] - change.files[0],
        "threads": change.threads[1] - change.threads[0],
        "peak_megabytes": round(ending.peak_bytes / 1e6),
        "seconds": round(ending.seconds),
        "failures": failures,
    }


def _child(scenario: Scenario, count: int, folder: Path, result: Path, done: Any) -> int:
    model = folder / "checkpoint" if scenario.checkpoint else None
    movies = [Path(line) for line in (folder / "movies.txt").read_text().splitlines()]
    process = Process(model, movies, count, folder, done)
    scenario.body(process, count)
    result.write_text(json.dumps(process.report()))
    return 0


def campaign(scenarios: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Runs scenarios one after the other and returns the rows of the table."""
    import_onnxruntime()  # once, before the processes are forked
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "movies.txt").write_text("\n".join(map(str, write_movies(folder))))
        if any(SCENARIOS[scenario].checkpoint for scenario in scenarios):
            # In a process of its own: the scenarios are forked from this one, which must not start PyTorch's threads.
            isolated(lambda: int(not write_checkpoint(folder / "checkpoint").is_dir()), 300, folder)
        rows += [run(scenario, count, folder) for scenario in scenarios]
    return rows


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    options_of = parser(__doc__)
    options_of.add_argument("--count", type=int, default=10_000, help="classifications in each process")
    options_of.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options = options_of.parse_args()
    sys.exit(finish("endurance", __doc__, campaign(options.scenarios, options.count), options.output))


if __name__ == "__main__":
    main()
