"""Errors of the library that name an option as it was typed, rather than as Python's argument."""

import contextlib
from collections.abc import Iterator

import click
from click.core import ParameterSource

from vis4mer.errors import Vis4merError


@contextlib.contextmanager
def options_as_typed(ctx: click.Context) -> Iterator[None]:
    """Rewrites an error that the block raises about an option of the command: ``length=9`` is then ``--length=9``."""
    try:
        yield
    except Vis4merError as error:
        raise type(error)(as_typed(str(error), ctx)) from None


def as_typed(message: str, ctx: click.Context) -> str:
    """Returns the message of an error, beginning with the option's flag if it is about one on the command line."""
    name, equals, rest = message.partition("=")
    flag = f"--{name.replace('_', '-')}"
    for parameter in ctx.command.get_params(ctx):
        if not equals or flag not in parameter.opts or not _was_typed(parameter, ctx):
            continue
        # An error about a file may concern another file of the same kind, such as the checkpoint of a further head.
        value = ctx.params.get(parameter.name or "")
        if isinstance(parameter.type, click.Path) and not rest.startswith(repr(str(value))):
            continue
        return f"{flag}={rest}"
    return message


def _was_typed(parameter: click.Parameter, ctx: click.Context) -> bool:
    return ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
