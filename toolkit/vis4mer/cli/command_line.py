"""The command line of a running command, to be shown or recorded."""

import shlex

import click
from click.core import ParameterSource


def command_line(ctx: click.Context) -> str:
    """Returns the command as the user could type it again, without options at their defaults."""
    words = list(ctx.command_path.split())
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name not in ctx.params or ctx.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        value = ctx.params[name]
        if isinstance(parameter, click.Argument):
            words += map(str, value if isinstance(value, tuple) else (value,))
        elif value is True:
            words.append(parameter.opts[-1])
        elif value is False:
            words.append(parameter.secondary_opts[-1])
        else:
            # An option that takes "none" has the value None.
            words += [parameter.opts[-1], "none" if value is None else str(value)]
    return shlex.join(words)
