"""The tables of the fault campaigns, made from ``tests/campaigns/results/*.json`` whenever the site is built.

Each campaign writes its own result. ``tests/campaigns/found.json`` is kept by hand: the failures that earlier runs of a
campaign found, with their causes, all of them fixed since.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_pages.page import describe_machine, table

# Place of the campaigns in the page.
MARK = "<!-- campaigns -->"

Result = Mapping[str, Any]
Found = Mapping[str, Sequence[Mapping[str, Any]]]

_HIDDEN = ("failures",)  # columns that are shown as a list below the table


def campaigns(folder: Path) -> str:
    """Returns the summary of all campaigns and a section for each, as Markdown.

    Args:
        folder: Folder of the campaigns, with ``results`` and ``found.json``.
    """
    results = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((folder / "results").glob("*.json"))}
    found: Found = json.loads((folder / "found.json").read_text("utf-8"))
    names = sorted({*results, *found})
    sections = [_section(name, results.get(name), found.get(name, ())) for name in names]
    return "\n".join([_summary(names, results, found), *sections])


def _summary(names: Sequence[str], results: Mapping[str, Result], found: Found) -> str:
    rows = []
    for name in names:
        fixed = str(sum(entry["failures"] for entry in found.get(name, ())))
        if name in results:
            tried, failed = (sum(row[column] for row in results[name]["rows"]) for column in ("tried", "failed"))
            rows.append((f"[{_title(name)}](#{name})", f"{tried:,}", fixed, f"{failed:,}"))
        else:
            rows.append((f"[{_title(name)}](#{name})", "not recorded", fixed, ""))
    return table(("campaign", "inputs tried", "failures found and fixed", "failures left"), rows)


def _section(name: str, result: Result | None, found: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"## {_title(name)} {{ #{name} }}"]
    if result is not None:
        facts = [
            ("Machine", describe_machine(result["machine"])),
            ("Date", result["date"]),
            ("Command", f"`{result['command']}`"),
        ]
        parts += [result["description"].strip(), table(("", ""), facts, "vb-facts"), _rows(result["rows"])]
    if found:
        parts.append("Found by earlier runs, and fixed:")
        parts.append("\n".join(f"- {_failures(entry['failures'])}: {entry['cause']}" for entry in found))
    return "\n\n".join(parts) + "\n"


def _rows(rows: Sequence[Result]) -> str:
    """Returns the result's own table, and below it the failures that are left."""
    columns = [name for name in rows[0] if name not in _HIDDEN]
    titles = [name.replace("_seconds", ", s").replace("_megabytes", ", MB").replace("_", " ") for name in columns]
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    left = [f"- {line}" for row in rows for line in row["failures"]]
    return table(titles, cells) + ("\nFailures left:\n\n" + "\n".join(left) if left else "")


def _failures(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
