"""Options that several commands share, and aliases for renamed options."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import click

from vis4mer.cli.console import say
from vis4mer.devices.device import RequestedDevice, parse_device
from vis4mer.errors import ConfigError


def _parse_device(ctx: click.Context, param: click.Parameter, value: str) -> RequestedDevice:
    try:
        return parse_device(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def check_seconds(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Checks a span of time in seconds: a callback for options that may be left out.

    Raises:
        click.BadParameter: The value is not positive, or not finite.
    """
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value}: must be a positive number of seconds")
    return value


def device_option(description: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the decorator that adds ``--device`` to a command, whose parameter becomes a `RequestedDevice`.

    Args:
        description: Help text of the option, a sentence.
    """
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda[:N]",
        callback=_parse_device,
        help=description,
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON object.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress bar and no warnings on stderr.")


def renamed_option(old: str, new: str, **shape: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the decorator that keeps an option's former spelling as a hidden alias for one version.

    The value reaches the command as if it had been given to the new option, which converts and checks it; a warning on
    stderr names the new spelling. For example::

        @click.option("--encoder-weights", metavar="FILE")
        @renamed_option("--weights", "--encoder-weights")

    Args:
        old: Former spelling, such as ``--weights``.
        new: Present spelling, of an option that the same command declares.
        **shape: Whichever of `is_flag`, `multiple` and `nargs` the new option has.
    """
    return click.option(old, cls=_RenamedOption, new=new, hidden=True, is_eager=True, expose_value=False, **shape)


class _RenamedOption(click.Option):
    """An option that passes its unconverted value on to the option which replaces it."""

    def __init__(self, *declarations: Any, new: str, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self._new = new

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        # `opts` holds what was on the command line, and all options of a command take their values from this one
        # dictionary. This option is eager, so it moves its value before the new option looks for one.
        (replacement,) = (param for param in ctx.command.params if self._new in param.opts)
        assert isinstance(opts, dict)
        assert self.name is not None
        assert replacement.name is not None
        if (value := opts.pop(self.name, None)) is not None:
            if opts.get(replacement.name) is not None:
                raise click.UsageError(f"{self.opts[0]} is the former name of {self._new}; use only {self._new}", ctx)
            say("warning", f"{self.opts[0]} is now {self._new}; the next version removes the old name")
            opts[replacement.name] = value
        return None, args
