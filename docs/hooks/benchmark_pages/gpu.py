"""The page of the runs on GPUs, made from ``benchmarks/results/gpu-*.json``: every step with its verdict."""

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmark_pages.page import Result, cell, describe_machine, in_words, rows_table, table

NAME = "gpu"
PAGE = "gpu.md"
TITLE = "On a GPU"
QUESTION = "What was built, tested and measured on a GPU?"
COMMAND = "python -m benchmarks.gpu"

_METHOD = f"""`{COMMAND}` builds the native ops, runs the tests that need a GPU, exports and verifies bundles in every
format and precision, compares decoded frames with PyAV's, runs every benchmark on the GPU, and checks the native ops
with compute-sanitizer. Each step runs in processes of its own; one that fails does not stop the others. A step is
*missing* if it needs a program or package that the machine lacks."""

_FACTS = {"driver": "Driver", "gpu_memory": "GPU memory", "gpu_power_limit": "Power limit"}


def page(files: Sequence[Path]) -> str:
    """Returns the page, as Markdown, which states where there is no result yet."""
    sections = [_section(path.name, json.loads(path.read_text("utf-8"))) for path in files]
    body = "\n".join(sections) or "No result of this command exists yet: it has not been run on a GPU.\n"
    return f"# {TITLE}\n\n{_METHOD}\n\n{body}"


def _section(file: str, result: Result) -> str:
    machine, steps = result["machine"], result["steps"]
    counts = Counter(step["verdict"] for step in steps)
    facts = [
        ("Machine", describe_machine(machine)),
        *((title, machine[key]) for key, title in _FACTS.items() if key in machine),
        ("Date", result["date"]),
        ("Commit", f"`{result['commit']}`"),
        ("Steps", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())),
        ("Data", f"[`benchmarks/results/{file}`](data/{file})"),
    ]
    rows = [(f"`{step['name']}`", step["verdict"], f"{step['seconds']:.0f}", cell(step["reason"])) for step in steps]
    details = [_details(step) for step in steps if step.get("figures") or step.get("log_tail")]
    title = f"## {machine.get('gpu', 'Dry run on a CPU')}"
    return "\n\n".join([title, table(("", ""), facts, "vb-facts"), table(("step", "", "seconds", ""), rows), *details])


def _details(step: Result) -> str:
    """Returns a step's figures and, if it did not pass, the end of its log."""
    parts = [f"### {step['name']}"]
    for name, value in step.get("figures", {}).items():
        if _is_table(value):
            parts.append(rows_table(value))
        elif value not in ({}, [], None, ""):
            parts.append(f"{name.replace('_', ' ')}: {cell(in_words(value))}")
    if step.get("log_tail"):
        lines = escape("\n".join(step["log_tail"]))
        parts.append(f"<details><summary>End of the log</summary><pre>{lines}</pre></details>")
    return "\n\n".join(parts)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
