"""Checks of options that more than one command has; what breaks its rule is wrong usage."""

import math
from collections.abc import Callable
from typing import Any

import click

from vis4mer.devices.device import parse_device
from vis4mer.errors import ConfigError


def check_device(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A callback for ``--device``.

    Raises:
        click.BadParameter: the name is no device's.
    """
    try:
        parse_device(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None
    return value


def check_seconds(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A callback for a span of time, or None where it is not given.

    Raises:
        click.BadParameter: it is not positive, or not finite.
    """
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value}: must be positive seconds")
    return value


def device_option(description: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the decorator that adds ``--device`` to a command.

    Args:
        description: Help text of the option, a sentence.
    """
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda[:N]",
        callback=check_device,
        help=description,
    )
