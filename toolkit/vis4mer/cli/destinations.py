"""Where `vis4mer run` writes: which destinations are allowed, and in which form."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vis4mer.errors import Vis4merError
from vis4mer.files import check_writable, is_replaceable, own_descriptor, same_file

if TYPE_CHECKING:
    from vis4mer.cli.report import FormName

_STDOUT = 1  # number of the descriptor


def is_stdout(output: str | None) -> bool:
    """Returns whether ``--output`` is left out, ``-``, or a name of this process's stdout such as ``/dev/stdout``."""
    return output is None or output == "-" or own_descriptor(output) == _STDOUT


def form_of_file(output: str | None) -> "FormName":
    """Returns the form for a file by its suffix; a table for stdout, and for a pipe or device, which need no suffix.

    Raises:
        UsageError: The suffix names no form.
    """
    from vis4mer.cli.report import FORM_OF_SUFFIX, form_of_suffix

    if output is None:
        return "table"
    form = form_of_suffix(output)
    if form is None and may_replace(output):
        known = ", ".join(FORM_OF_SUFFIX)
        raise click.UsageError(f"--output {output!r} ends in none of {known}; use one, or set --output-format")
    return form or "table"


def may_replace(output: str) -> bool:
    """Returns whether a destination is a file, or none yet, as opposed to a pipe, a device or an open descriptor."""
    try:
        return is_replaceable(output)
    except OSError:  # reported when the file is checked or written
        return False


def refuse_to_overwrite(videos: Sequence[str], output: str | None, timeline: str | None) -> None:
    """Raises UsageError if a result would replace a video or another result."""
    for option, path in (("--output", output), ("--timeline", timeline)):
        if path is not None and any(same_file(path, video) for video in videos):
            raise click.UsageError(f"{option} {path!r} is one of the videos; choose another file")
    if output is not None and timeline is not None and same_file(output, timeline):
        raise click.UsageError(f"--output and --timeline are both {output!r}; choose two files")


def require_writable(output: str | None, timeline: str | None) -> None:
    """Raises Vis4merError, before the work, if its results could not be written."""
    if output is None and sys.stdout is None:
        raise Vis4merError("stdout: is closed; write to a file with --output")
    for path in (output, timeline):
        if path is not None:
            check_writable(path)
