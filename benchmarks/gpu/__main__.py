"""Builds, tests, exports, decodes, measures and checks on the first GPU of this machine, step by step.

    python -m benchmarks.gpu [--minutes 30] [--resume] [--only STEP ...] [--dry-run]

Each step runs in processes of its own, with a time limit, a log file and a verdict; one that fails, hangs or needs
something that is absent does not stop the others. The result is written after every step, to
benchmarks/results/gpu-NAME.json, from which the documentation makes a page. --dry-run runs the same steps on the CPU in
tiny form, to test this command where there is no GPU.
"""

import argparse
import datetime
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.gpu.figures import ROOT
from benchmarks.gpu.runner import Record, is_final, run
from benchmarks.gpu.step import Step
from benchmarks.gpu.steps import MINUTE, by_priority, steps
from benchmarks.harness.benchmark import RESULTS, slug
from benchmarks.harness.machine import machine
from vis4mer.devices.device import probe_driver
from vis4mer.errors import Vis4merError
from vis4mer.files import check_writable, write_atomically

_BAD = ("failed", "timed out")


def main() -> None:
    """Runs the command line; exits with 1 if a step failed or was stopped at its time limit."""
    options = _parser().parse_args()
    gpu = None if options.dry_run else _gpu()
    name = f"gpu-{slug(gpu or 'dry run')}"
    work = Path("build") / name
    path = options.output or (ROOT / work / "result.json" if gpu is None else RESULTS / f"{name}.json")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        (ROOT / work).mkdir(parents=True, exist_ok=True)
        check_writable(path)
        records = _run(options, gpu, work, path)
    except Vis4merError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"stopped; --resume continues after the steps that are complete in {path}", file=sys.stderr)
        sys.exit(130)
    print(f"wrote {path}; logs are in {work}", file=sys.stderr)
    sys.exit(any(record["verdict"] in _BAD for record in records.values()))


def _run(options: argparse.Namespace, gpu: str | None, work: Path, path: Path) -> dict[str, Record]:
    every = steps(work, gpu and slug(gpu))
    names = [step.name for step in every]
    chosen = _chosen(every, options.only)
    if options.minutes is not None:
        chosen = by_priority(chosen)
    # A run of some steps leaves the records of the others as they are.
    records = _earlier_records(path) if options.resume or options.only else {}
    if options.resume:
        chosen = [step for step in chosen if not is_final(step, records.get(step.name, {}))]
    facts = {
        "description": __doc__,
        "machine": machine(gpu),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "dry_run": options.dry_run,
    }

    def save() -> None:
        ordered = [records[name] for name in names if name in records]
        write_atomically(path, (json.dumps({**facts, "steps": ordered}, indent=2) + "\n").encode())

    if chosen:
        budget = None if options.minutes is None else options.minutes * MINUTE
        run(chosen, records, ROOT / work, save, budget=budget)
    return records


def _chosen(every: Sequence[Step], patterns: Sequence[str]) -> list[Step]:
    """Returns the steps that match a pattern; all steps if there is none."""
    for pattern in patterns:
        if not any(fnmatchcase(step.name, pattern) for step in every):
            sys.exit(f"error: --only {pattern}: must match a step; the steps are {', '.join(s.name for s in every)}")
    return [step for step in every if not patterns or any(fnmatchcase(step.name, pattern) for pattern in patterns)]


def _earlier_records(path: Path) -> dict[str, Record]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        return {record["name"]: record for record in content["steps"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        sys.exit(f"error: {path}: is no result of this command; delete it, or choose another --output")


def _gpu() -> str:
    """Returns the name of the first GPU. PyTorch is not imported: its memory on the GPU would be in the steps' way."""
    driver = probe_driver()
    if driver.problem:
        sys.exit(f"error: device='cuda': {driver.problem}; --dry-run tests this command without a GPU")
    return driver.gpus[0]


def _commit() -> str | None:
    """Returns the commit of the sources; None without git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _exit(number: int, frame: FrameType | None) -> None:
    """Ends this process as an interruption does, so the step under way is stopped and recorded."""
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="time for all steps; the most telling ones come first"
    )
    parser.add_argument("--resume", action="store_true", help="skip the steps that passed or failed in an earlier run")
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="STEP",
        help="run these steps alone; names or patterns such as 'export-*'",
    )
    parser.add_argument("--dry-run", action="store_true", help="run the steps on the CPU in tiny form")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="result file (default: under results/)")
    return parser


if __name__ == "__main__":
    main()
