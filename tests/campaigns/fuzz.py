"""Coverage-guided fuzzing of the parsers and the arithmetic that see untrusted input.

atheris (https://github.com/google/atheris) varies the inputs so that they reach new lines; `targets` says what each
input becomes and what must hold. A failure is an exception that is not of this project, a property that does not hold,
an input that takes more than 10 s, or a process of more than 2 GB. It ends the target, and the input is kept in the
folder `--failures`; ``python -m tests.campaigns.fuzz TARGET --replay FILE`` repeats it.

    pip install atheris
    python -m tests.campaigns.fuzz all --seconds 3600
    python -m tests.campaigns.fuzz manifest --seconds 300 --keep    # adds inputs that reach new lines to the corpus
    python -m tests.campaigns.fuzz all --seconds 0                  # the corpus alone, without atheris
"""

import hashlib
import importlib.util
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from tests.campaigns.campaign import finish, parser
from tests.campaigns.isolation import Ending, isolated

CORPUS = Path(__file__).parent / "corpus"
NAMES = ("bitstream", "index", "sampling", "planner", "manifest", "csv", "config", "settings", "tokens")
MOST_INPUT_BYTES, MOST_INPUT_SECONDS = 4000, 10
MOST_MEGABYTES = 2000  # of the process, of which PyTorch and the counters of atheris take half
_MOST_KEPT = 40  # files of a target's corpus


def corpus(name: str) -> list[Path]:
    """Returns the inputs that are kept for a target."""
    return sorted((CORPUS / name).glob("*"))


def replay(name: str, files: list[Path]) -> int:
    """Runs a target on files; an exception is a failure."""
    from tests.campaigns import targets

    for file in files:
        try:
            targets.run(name, file.read_bytes())
        except Exception:
            print(f"input: {file}", file=sys.stderr)
            raise
    return 0


def search(name: str, seconds: int, found: Path, failures: Path) -> int:
    """Fuzzes a target in this process, which ends with it.

    Args:
        name: Target.
        seconds: Time to search.
        found: Folder for inputs that reach new lines.
        failures: Folder for the input that fails.
    """
    import atheris

    # Instrumentation happens on import, so nothing of the project may have been imported before.
    with atheris.instrument_imports(include=["vis4mer"]):
        from tests.campaigns import targets
    atheris.Setup(
        [
            *("fuzz", str(found), str(CORPUS / name), f"-max_total_time={seconds}", "-print_final_stats=1"),
            *(f"-max_len={MOST_INPUT_BYTES}", f"-timeout={MOST_INPUT_SECONDS}", f"-artifact_prefix={failures}/{name}-"),
            f"-rss_limit_mb={MOST_MEGABYTES}",
        ],
        lambda data: targets.run(name, data) and None,
    )
    atheris.Fuzz()
    return 0


def keep(name: str, found: Path) -> int:
    """Replaces a target's corpus by few small inputs, old and new, that together reach what all of them reach."""
    inputs = sorted({file.read_bytes() for folder in (found, CORPUS / name) for file in folder.glob("*")}, key=len)
    kept, reached = [], set[_Step]()
    for data in inputs:
        steps = _steps(name, data)
        if not steps <= reached:
            kept.append(data)
            reached |= steps
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    for file in corpus(name):
        file.unlink()
    for data in kept[-_MOST_KEPT:]:  # the smallest ones reach little
        (CORPUS / name / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    return 0


_Step = tuple[str, int, int]  # file, line, and the next line in the same call


def _steps(name: str, data: bytes) -> set[_Step]:
    """Returns the steps from line to line that an input takes in the project."""
    from tests.campaigns import targets

    steps: set[_Step] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        file, last = frame.f_code.co_filename, frame.f_lineno
        if "/vis4mer/" not in file:
            return None

        def follow(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            steps.add((file, last, frame.f_lineno))
            last = frame.f_lineno
            return follow

        return follow

    sys.settrace(trace)
    try:
        targets.run(name, data)
    finally:
        sys.settrace(None)
    return steps


def campaign(names: list[str], seconds: int, failures: Path, keeps: bool) -> Iterator[dict[str, Any]]:
    """Fuzzes targets one after the other and yields a row for each."""
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            found = Path(scratch) / "found"
            found.mkdir()
            started = time.monotonic()
            if seconds:
                (CORPUS / name).mkdir(parents=True, exist_ok=True)
                ending = isolated(partial(search, name, seconds, found, failures), seconds + 300, Path(scratch))
            else:
                ending = isolated(partial(replay, name, corpus(name)), 300, Path(scratch))
            spent = round(time.monotonic() - started)
            if keeps and ending.status == 0:
                isolated(partial(keep, name, found), 600, Path(scratch))
            yield _row(name, ending, spent)


def _row(name: str, ending: Ending, seconds: int) -> dict[str, Any]:
    def statistic(key: str) -> int:
        found = re.search(rf"stat::{key}:\s+(\d+)", ending.stderr)
        return int(found[1]) if found else 0

    problem = ""
    if ending.status != 0:
        # atheris reports an exception on stdout, libFuzzer a hang or too much memory on stderr.
        lines = (ending.stdout + ending.stderr).splitlines()
        errors = [line for line in lines if re.match(r"\w*(Error|Exception)\b|==\d+== ?ERROR|input: ", line)]
        problem = " / ".join(errors[:2]) or f"ended with {ending.status or ending.signal}"
    return {
        "target": name,
        "tried": statistic("number_of_executed_units") or len(corpus(name)),
        "failed": int(bool(problem)),
        "seconds": seconds,
        "slowest_seconds": statistic("slowest_unit_time_sec"),
        "peak_megabytes": round(ending.peak_bytes / 1e6),
        "corpus": len(corpus(name)),
        "failures": [problem] if problem else [],
    }


def main() -> None:
    """Runs the campaign, prints its table and optionally writes it as JSON."""
    options_of = parser(__doc__)
    options_of.add_argument("target", choices=("all", *NAMES))
    options_of.add_argument("--seconds", type=int, default=600, help="time for each target; 0 replays the corpus")
    options_of.add_argument("--failures", type=Path, default=Path(), metavar="DIR", help="folder for inputs that fail")
    options_of.add_argument("--keep", action="store_true", help="minimise the corpus with the inputs found")
    options_of.add_argument("--replay", type=Path, metavar="FILE", help="run the target on a file, and nothing else")
    options = options_of.parse_args()
    if options.replay:
        sys.exit(replay(options.target, [options.replay]))
    if options.seconds and importlib.util.find_spec("atheris") is None:
        sys.exit("fuzz: atheris is not installed; pip install atheris, or replay the corpus with --seconds 0")
    options.failures.mkdir(parents=True, exist_ok=True)  # libFuzzer fails without it
    names = list(NAMES) if options.target == "all" else [options.target]
    rows = list(campaign(names, options.seconds, options.failures, options.keep))
    sys.exit(finish("fuzz", __doc__, rows, options.output))


if __name__ == "__main__":
    main()
