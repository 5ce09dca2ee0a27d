"""Parts common to the benchmark pages: a table, and the machine, command and data behind the figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Result = Mapping[str, Any]

_PACKAGES = {"torch": "PyTorch", "onnxruntime-gpu": "ONNX Runtime", "onnxruntime": "ONNX Runtime"}


@dataclass(frozen=True)
class Benchmark:
    """One benchmark and its page.

    Attributes:
        name: Stem of its result files.
        title: Title of the page.
        question: What it answers, in one line, for the index.
        command: Command that measures it.
        method: What is measured and how, as Markdown.
        show: Turns one result into charts, tables and conclusions, as Markdown.
    """

    name: str
    title: str
    question: str
    command: str
    method: str
    show: Callable[[Result], str]

    @property
    def page(self) -> str:
        """File name of its page."""
        return f"{self.name.replace('_', '-')}.md"


def facts(benchmark: Benchmark, file: str, result: Result) -> str:
    """Returns the machine, the command and the data of one result, as a table."""
    rows = [("Machine", describe_machine(result.get("machine"))), ("Command", f"`{benchmark.command}`")]
    rows.append(("Data", f"[`benchmarks/results/{file}`](data/{file})"))
    return table(("", ""), rows, "vb-facts")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    """Returns a Markdown table; columns of numbers are aligned right.

    Args:
        header: Titles of the columns.
        rows: Cells, as Markdown.
        style: Class of an element around the table.
    """
    columns = list(zip(*rows, strict=True))
    numeric = [
        all(cell == "" or (cell[0].isdigit() and not cell[-1].isalpha()) for cell in column) for column in columns
    ]
    rule = ["---:" if right else "---" for right in numeric]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)) + "\n"
    return f'<div class="{style}" markdown>\n\n{text}\n</div>\n' if style else f"{text}\n"


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a Markdown table of all fields of rows, which need not have the same ones."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[cell(in_words(row.get(name))) for name in names] for row in rows]
    return table([name.replace("_", " ") for name in names], cells)


def in_words(value: Any) -> str:
    """Returns a value of a result as text."""
    match value:
        case None:
            return ""
        case float():
            return f"{value:.4g}"
        case dict():
            return ", ".join(f"{name} {in_words(entry)}" for name, entry in value.items())
        case list():
            return ", ".join(map(in_words, value))
        case _:
            return str(value)


def cell(text: str) -> str:
    """Returns text as a cell of a Markdown table: neither a pipe nor a line end ends the cell, and no tag opens."""
    return escape(" ".join(text.split()), quote=False).replace("|", "&#124;")


def describe_machine(machine: Mapping[str, Any] | str | None) -> str:
    """Returns processor, threads and versions of a result's machine in one line."""
    if machine is None:
        return "not recorded"
    if isinstance(machine, str):
        return f"{machine}; nothing else recorded"
    versions = [f"{title} {machine[name]}" for name, title in _PACKAGES.items() if name in machine]
    processors = [machine["gpu"]] if "gpu" in machine else []
    processors.append(f"{machine['cpu']}, {machine['threads']} threads")
    return ", ".join([*processors, f"Python {machine['python']}", *versions])
