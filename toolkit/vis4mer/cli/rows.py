"""Rows of a name and a value: wrapped at words on a terminal, whole lines elsewhere."""

import shutil
import sys
import textwrap

import click

from vis4mer.cli.console import is_terminal
from vis4mer.text import printable

# Indentation of values that stand below their names, where a terminal is too narrow for two columns.
_NARROW_INDENT = 4


def print_row(name: str, value: str, width: int) -> None:
    """Prints a name and a value; on a terminal, the value's further lines begin below its first.

    Args:
        name: Name, such as ``encoder``.
        value: Value in words; characters that a terminal would act on are escaped.
        width: Width of the column of names.
    """
    if is_terminal(sys.stdout) and 2 * (width + 2) > _columns():
        print_wrapped(name, 0)
        print_wrapped(" " * _NARROW_INDENT + printable(value), _NARROW_INDENT)
    else:
        print_wrapped(f"{name:<{width}}  {printable(value)}", width + 2)


def print_wrapped(line: str, indent: int) -> None:
    """Prints a line, on a terminal wrapped at words, with further lines indented.

    Args:
        line: Text without line breaks.
        indent: Number of spaces before further lines.
    """
    if is_terminal(sys.stdout):
        # A path that is longer than a line is not cut: it could not be copied any more.
        indentation = " " * indent
        line = textwrap.fill(
            line, _columns(), subsequent_indent=indentation, break_long_words=False, break_on_hyphens=False
        )
    click.echo(line)


def _columns() -> int:
    return max(1, shutil.get_terminal_size().columns)
