"""What the options of `vis4mer train` amount to, before anything heavy is loaded."""

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vis4mer.cli.dataset import movies_of, read_listing
from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.training.config import TrainConfig
from vis4mer.training.listing import Example, Listing, Split
from vis4mer.training.protocols import Protocol, find_protocol

_FRAMES = {"fps": "fps", "segments": "segments", "height": "image_size", "width": "image_size"}
_WINDOWS = {"seconds": "window_seconds", "stride": "stride", "samples": "samples"}


@dataclass(frozen=True)
class Plan:
    """What to train on, and how.

    Attributes:
        protocol: the published benchmark, or None for a user's own movies.
        listing: of the data set.
        train: movies to learn from.
        val: movies to choose the epoch by.
        chosen_on: the split they are.
        config: how to train.
        preprocessing: of frames.
        windows: how movies are cut.
        encoder: its name.
        head: name of the trained head.
    """

    protocol: Protocol | None
    listing: Listing
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    chosen_on: Split
    config: TrainConfig
    preprocessing: Preprocessing
    windows: WindowConfig
    encoder: str
    head: str


def plan_training(
    ctx: click.Context,
    movies: Path | None,
    protocol: str | None,
    videos: Path | None,
    splits: Path | None,
    options: Mapping[str, Any],
) -> Plan:
    """Reads the data set and settles the settings: a benchmark's own, where the user gave no others.

    Args:
        ctx: tells which options the user gave.
        movies: a CSV.
        protocol: name of a benchmark.
        videos: folder of its videos.
        splits: folder of its lists.
        options: the others, by name.

    Raises:
        click.UsageError: options that do not go together.
        Vis4merError: a value breaks its rule, or the data set cannot be read or lacks a split.
    """
    benchmark = None if protocol is None else find_protocol(protocol)
    given = {name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    prescribed: dict[str, Any] = {"schedule": "plateau"} if benchmark or options["as_published"] else {}
    if benchmark:
        prescribed |= {
            "encoder": benchmark.encoder,
            "epochs": benchmark.epochs,
            "batch_size": benchmark.batch_size,
            "head": benchmark.name.rpartition("/")[2],
        }
    settled = {**options, **{name: value for name, value in prescribed.items() if name not in given}}
    frames, windows = (
        {field: settled[option] for field, option in names.items() if option in given} for names in (_FRAMES, _WINDOWS)
    )
    config = TrainConfig(**{field.name: settled[field.name] for field in dataclasses.fields(TrainConfig)})
    preprocessing = dataclasses.replace(benchmark.preprocessing if benchmark else Preprocessing(), **frames)
    window_config = dataclasses.replace(benchmark.windows if benchmark else WindowConfig(), **windows)
    listing = read_listing(movies, benchmark, videos, splits, val_ratio=options["val_ratio"], seed=config.seed)
    chosen_on: Split = "test" if config.as_published else "val"
    train = movies_of(listing, "train")
    if config.as_published and benchmark and benchmark.holds_out:
        train += listing.split("val")
    return Plan(
        benchmark,
        listing,
        train,
        movies_of(listing, chosen_on),
        chosen_on,
        config,
        preprocessing,
        window_config,
        settled["encoder"],
        settled["head"],
    )


def command_line(ctx: click.Context) -> str:
    """Returns the command as the user could type it again, without what was left to its default."""
    words = list(ctx.command_path.split())
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if ctx.get_parameter_source(parameter.name or "") is ParameterSource.DEFAULT:
            continue
        if isinstance(parameter, click.Argument):
            words += map(str, value if isinstance(value, tuple) else (value,))
        elif value is True:
            words.append(parameter.opts[-1])
        else:
            words += [parameter.opts[-1], str(value)]
    return shlex.join(words)
