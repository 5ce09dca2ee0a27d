"""Options that `vis4mer train`, `vis4mer extract` and `vis4mer eval` share, and options that are settings."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from vis4mer.cli.options import renamed_option
from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.errors import ConfigError
from vis4mer.training.config import TokenDtype
from vis4mer.training.data.protocols import PROTOCOLS
from vis4mer.training.mapping import merged
from vis4mer.training.settings import WEIGHT_NAMES, EncoderSettings

COUNT = click.IntRange(min=1)
POSITIVE = click.FloatRange(min=0, min_open=True)
BELOW_ONE = click.FloatRange(min=0, max=1, max_open=True)
SEED = click.IntRange(0, 2**32 - 1)

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
PROTOCOL = click.Choice(tuple(PROTOCOLS))

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _CountOrNone(click.IntRange):
    """An integer in a range, or ``none`` for the absence of one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "none" else super().convert(value, param, ctx)


COUNT_OR_NONE = _CountOrNone(min=1)


class _Weights(click.Path):
    """A weight file, or one of the words for weights that come from elsewhere; shells complete both."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        words = [word for word in WEIGHT_NAMES if incomplete and word.startswith(incomplete)]
        return [CompletionItem(word) for word in words] or super().shell_complete(ctx, param, incomplete)


class SettingOption(click.Option):
    """An option that sets values of a settings dataclass.

    Args:
        keys: Keys of the values, such as ``training.lr``.
    """

    def __init__(self, *declarations: Any, keys: Sequence[str], **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.keys = keys


def setting(name: str, *keys: str, help: str, **attributes: Any) -> Decorator:
    """Returns the decorator that adds an option for a setting to a command.

    Args:
        name: Name of the option, such as ``--lr``.
        *keys: Keys of the settings that the option sets.
        help: Help text, a sentence.
        **attributes: Attributes of `click.Option`.
    """
    shows_default = attributes.get("default") is not None
    return click.option(name, cls=SettingOption, keys=keys, help=help, show_default=shows_default, **attributes)


def given_settings(ctx: click.Context) -> dict[str, Any]:
    """Returns the settings that the user gave on the command line, in the form of `TrainSettings.to_dict`."""
    settings: dict[str, Any] = {}
    for parameter in ctx.command.params:
        assert parameter.name is not None
        if not isinstance(parameter, SettingOption) or not _is_given(ctx, parameter):
            continue
        value = ctx.params[parameter.name]
        for key in parameter.keys:
            settings = merged(settings, _nested(key, str(value) if isinstance(value, Path) else value))
    return settings


@contextmanager
def naming_options(ctx: click.Context) -> Iterator[None]:
    """Reports a setting of the command line that breaks a rule as wrong usage, under the name of its option.

    A setting that the user did not give belongs to the settings file, if there is one, and keeps its key.

    Raises:
        click.UsageError: A setting of the command line breaks its rule.
    """
    try:
        yield
    except ConfigError as error:
        is_from_file = ctx.params.get("config") is not None
        for parameter in ctx.command.params:
            if not isinstance(parameter, SettingOption) or (is_from_file and not _is_given(ctx, parameter)):
                continue
            keys = "|".join(map(re.escape, parameter.keys))
            # read_settings puts the name of the file before the key.
            if found := re.match(rf"(?:config='.*': )?(?:{keys})(?==)", str(error)):
                raise click.UsageError(f"{parameter.opts[-1]}{str(error)[found.end() :]}", ctx) from None
        raise


def _is_given(ctx: click.Context, parameter: click.Parameter) -> bool:
    assert parameter.name is not None
    return ctx.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT


def hide_library_logs() -> None:
    """Hides what the libraries that create and download encoders log, except for errors.

    They repeat what this project reports itself, or advertise an account of the hub.
    """
    logging.getLogger("timm").setLevel(logging.ERROR)
    # huggingface_hub sets its logger's level when it is imported, from this variable.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def _nested(key: str, value: object) -> dict[str, Any]:
    """Returns ``{"training": {"lr": value}}`` for the key ``training.lr``."""
    section, _, rest = key.partition(".")
    return {section: _nested(rest, value) if rest else value}


def chained(*decorators: Decorator) -> Decorator:
    """Returns the decorator that adds several options, in the order of the arguments in the command's help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


encoder_options = chained(
    setting(
        "--encoder",
        "encoder.name",
        default=EncoderConfig.name,
        metavar="NAME",
        help="Name of the encoder in timm or torchvision. It is not trained.",
    ),
    setting(
        "--encoder-weights",
        "encoder.weights",
        default=EncoderSettings.weights,
        metavar="FILE|hub|random",
        type=_Weights(dir_okay=False),
        help="Weight file of the encoder; 'hub' downloads the published weights.",
    ),
    setting(
        "--image-size",
        "preprocessing.height",
        "preprocessing.width",
        default=Preprocessing.height,
        type=COUNT,
        help="Height and width of the encoder's frames, in pixels.",
    ),
    setting(
        "--fps",
        "preprocessing.fps",
        default=Preprocessing.fps,
        type=POSITIVE,
        help="Frames to encode per second of video.",
    ),
    setting(
        "--segments",
        "preprocessing.segments",
        metavar="N|none",
        type=COUNT_OR_NONE,
        help="Segments to encode per video, for an encoder of segments; 'none' encodes frames.",
    ),
    setting(
        "--cache-dtype",
        "cache_dtype",
        default="bf16",
        type=click.Choice(get_args(TokenDtype)),
        help="Data type of the tokens in the cache.",
    ),
)

cache_dtype_option = click.option(
    "--cache-dtype",
    default="bf16",
    show_default=True,
    type=click.Choice(get_args(TokenDtype)),
    help="Data type of the tokens in the cache.",
)

loader_workers_option = chained(
    click.option(
        "--loader-workers",
        default=0,
        show_default=True,
        metavar="N",
        type=click.IntRange(min=0),
        help="Processes that read tokens; 0 reads them in this process. Use several with a GPU.",
    ),
    renamed_option("--workers", "--loader-workers"),
)


def check_data_set(movies: Path | None, protocol: str | None, videos: Path | None, splits: Path | None) -> None:
    """Checks that the user named one data set: a CSV of movies, or a benchmark with its folders.

    Raises:
        click.UsageError: The options do not fit together.
    """
    if (movies is None) == (protocol is None):
        raise click.UsageError("pass either a CSV of movies or --protocol")
    n_folders = sum(folder is not None for folder in (videos, splits))
    if n_folders != (0 if protocol is None else 2):
        raise click.UsageError("--protocol, --videos and --splits must be used together")
