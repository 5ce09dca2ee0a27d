"""Readers of the figures that a step's output or files hold."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.step import Figures

ROOT = Path(__file__).parents[2]

_DOCTOR = (
    "cuda_driver",
    "gpus",
    "onnxruntime_providers",
    "device_auto",
    "device_reason",
    "precision_auto",
    "video_decoder_auto",
    "native_ops",
)


def json_object(log: str) -> dict[str, Any]:
    """Returns the last indented JSON object in a log; other lines may surround it."""
    lines = log.splitlines()
    end = len(lines) - lines[::-1].index("}")
    start = end - lines[:end][::-1].index("{") - 1
    value: dict[str, Any] = json.loads("\n".join(lines[start:end]))
    return value


def doctor(log: str) -> Figures:
    """Returns the findings of `vis4mer doctor --json` and the versions of the installed packages."""
    report = json_object(log)
    packages = {entry["name"]: entry["version"] for entry in report["packages"] if entry["version"]}
    return {name: report[name] for name in _DOCTOR if name in report} | {"packages": packages}


def tests(report: Path) -> Callable[[str], Figures]:
    """Returns a reader of the counts, failures and reasons for skips in pytest's JUnit report."""

    def read(log: str) -> Figures:
        cases = ElementTree.parse(ROOT / report).getroot().findall(".//testcase")
        failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if _has(case, "failure", "error")]
        skipped = Counter(skip.get("message", "") for case in cases for skip in case.findall("skipped"))
        passed = len(cases) - len(failed) - skipped.total()
        return {"passed": passed, "failed": failed, "skipped": dict(skipped)}

    return read


def _has(case: ElementTree.Element, *names: str) -> bool:
    return any(case.find(name) is not None for name in names)


def parity(log: str) -> Figures:
    """Returns device, relative L2 error and tolerance of every graph from `vis4mer verify --json`."""
    report = json_object(log)
    graphs = {
        name: {key: graph[key] for key in ("relative_l2", "tolerance")} for name, graph in report["graphs"].items()
    }
    return {"device": report["device"], "graphs": graphs}


def columns(result: Path, *names: str) -> Callable[[str], Figures]:
    """Returns a reader of some columns of a benchmark's result file, and of what was left out."""

    def read(log: str) -> Figures:
        content = json.loads((ROOT / result).read_text("utf-8"))
        rows = [{name: row[name] for name in names if name in row} for row in content["rows"]]
        return {"rows": rows} | {key: content[key] for key in ("left_out",) if content.get(key)}

    return read


def sanitizer(log: str) -> Figures:
    """Returns the summary that compute-sanitizer prints at its end."""
    summaries = re.findall(r"^=+ (?:\w+ )?SUMMARY: (.*)$", log, re.MULTILINE)
    return {"summary": summaries[-1]} if summaries else {}
