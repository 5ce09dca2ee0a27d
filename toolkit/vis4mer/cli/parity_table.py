"""The parity of a bundle's graphs with their model, as a table."""

import io
import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vis4mer.cli.console import is_terminal
from vis4mer.cli.rows import print_wrapped
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.parity import RAN, REASON
from vis4mer.text import printable

# Wide enough for every table: away from a terminal, a row is one line.
_PLAIN_WIDTH = 1000  # characters

# Widths from which the inputs fit on one line, and from which there is room for all columns.
_WIDE, _MEDIUM = 76, 56


def print_parity(bundle: Bundle, parity: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a row for each graph: its file and size, the largest error and the inputs of the comparison.

    A line below names the graphs that did not run in the form in which they were written.

    Args:
        bundle: Bundle of the graphs.
        parity: Fields of `GraphParity` by graph, and what the export adds to them.
    """
    text = io.StringIO()
    console = Console(file=text, color_system=None, width=None if is_terminal(sys.stdout) else _PLAIN_WIDTH)
    console.print(_table(bundle, parity, console.width), highlight=False)
    for line in text.getvalue().splitlines():
        click.echo(line.rstrip())
    for (ran, reason), graphs in _not_executed(parity).items():
        line = f"not executed as written: {', '.join(graphs)}: {reason}; the errors are those of {ran}"
        print_wrapped(line, indent=4)


def _table(bundle: Bundle, parity: Mapping[str, Mapping[str, Any]], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("graph", overflow="fold")
    table.add_column("MB", justify="right", no_wrap=True)
    names = ("error", "tolerance", "batch") if width >= _MEDIUM else ("error",)
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column("inputs", no_wrap=True)
    for graph, result in parity.items():
        file, kinds = bundle.file_of(graph), result["kinds"]
        inputs = [f"{kinds.count(kind)} {printable(kind)}" for kind in dict.fromkeys(kinds)]
        cells = {
            "error": f"{result['relative_l2']:.1e}",
            "tolerance": f"{result['tolerance']:.0e}",
            "batch": ", ".join(map(str, result["batch_sizes"])),
        }
        table.add_row(
            Text(file),
            f"{bundle.files[file].bytes / 1e6:.2f}",
            *(cells[name] for name in names),
            Text((", " if width >= _WIDE else "\n").join(inputs)),
        )
    return table


def _not_executed(parity: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Groups the graphs that did not run as written by what ran in their place, and why."""
    groups: dict[tuple[str, str], list[str]] = {}
    for graph, result in parity.items():
        if RAN in result:
            groups.setdefault((result[RAN], result[REASON]), []).append(graph)
    return groups
