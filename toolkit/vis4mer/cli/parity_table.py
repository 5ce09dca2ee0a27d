"""How far a bundle's graphs are from their model, as a table."""

from collections.abc import Mapping

import click

from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.parity import GraphParity


def print_parity(bundle: Bundle, results: Mapping[str, GraphParity]) -> None:
    """Prints a row for each graph: its file and size, the worst error and what was tried."""
    click.echo(f"{'graph':<16} {'file':<28} {'MB':>8}  {'rel. L2 error':<14} {'tolerance':<10} {'batch':<6} inputs")
    for graph, result in results.items():
        name = bundle.file_of(graph)
        megabytes, sizes = bundle.files[name].bytes / 1e6, ", ".join(map(str, result.batch_sizes))
        inputs = ", ".join(f"{result.kinds.count(kind)} {kind}" for kind in dict.fromkeys(result.kinds))
        error, tolerance = f"{result.relative_l2:.1e}", f"{result.tolerance:.0e}"
        click.echo(f"{graph:<16} {name:<28} {megabytes:8.2f}  {error:<14} {tolerance:<10} {sizes:<6} {inputs}")
