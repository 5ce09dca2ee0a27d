"""The parity of a bundle's graphs with their model, as a table."""

from collections.abc import Mapping
from typing import Any

import click

from vis4mer.runtime.bundle import Bundle


def print_parity(bundle: Bundle, parity: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a row for each graph: its file and size, the largest error and the inputs of the comparison.

    Args:
        bundle: Bundle of the graphs.
        parity: Fields of `GraphParity` by graph.
    """
    click.echo(f"{'graph':<16} {'file':<28} {'MB':>8}  {'rel. L2 error':<14} {'tolerance':<10} {'batch':<6} inputs")
    for graph, result in parity.items():
        name, kinds = bundle.file_of(graph), result["kinds"]
        megabytes, sizes = bundle.files[name].bytes / 1e6, ", ".join(map(str, result["batch_sizes"]))
        inputs = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        error, tolerance = f"{result['relative_l2']:.1e}", f"{result['tolerance']:.0e}"
        click.echo(f"{graph:<16} {name:<28} {megabytes:8.2f}  {error:<14} {tolerance:<10} {sizes:<6} {inputs}")
