"""Options that the others leave without effect: refused, because the user expects one."""

from collections.abc import Iterable, Iterator

import click
from click.core import ParameterSource

from vis4mer.training.data.listing import names_splits
from vis4mer.training.settings import ExtractSettings, TrainSettings

_Ignored = Iterable[tuple[str, str]]


def refuse_ignored(ctx: click.Context, ignored: _Ignored) -> None:
    """Refuses a command line with an option that has no effect.

    Args:
        ctx: Context of the command.
        ignored: Options without effect, whether given or not, as names of parameters, and the reasons.

    Raises:
        click.UsageError: The user gave one of them.
    """
    options = {parameter.name: parameter.opts[-1] for parameter in ctx.command.params}
    for name, reason in ignored:
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{options[name]} has no effect: {reason}", ctx)


def ignored_in_training(ctx: click.Context, settings: TrainSettings) -> Iterator[tuple[str, str]]:
    """Yields the options of `vis4mer train` that have no effect with these settings, and the reasons.

    Raises:
        DataError: The CSV of movies cannot be read.
    """
    data, samples, schedule = settings.data, settings.windows.samples, settings.training.schedule
    if samples is not None:
        reason = f"with --samples {samples}, the whole movie is the only window; --samples none cuts it"
        yield "window_seconds", reason
        yield "stride", reason
    if settings.preprocessing.segments is not None:
        yield "fps", _segments_reason(settings.preprocessing.segments)
    if schedule != "cosine":
        yield "warmup", f"--schedule {schedule} has no warm-up"
    # The file is read once more for an option that is rarely given.
    if ctx.get_parameter_source("val_ratio") is not ParameterSource.DEFAULT:
        if data.protocol is not None:
            yield "val_ratio", f"--protocol {data.protocol} defines the splits"
        elif data.movies is not None and names_splits(data.movies):
            yield "val_ratio", f"{data.movies.name} has a column 'split'"


def ignored_in_extraction(settings: ExtractSettings) -> Iterator[tuple[str, str]]:
    """Yields the options of `vis4mer extract` that have no effect with these settings, and the reasons."""
    if settings.preprocessing.segments is not None:
        yield "fps", _segments_reason(settings.preprocessing.segments)
    if settings.encoder.weights != "random":
        yield "seed", "only --encoder-weights random draws anything"


def _segments_reason(segments: int) -> str:
    return f"with --segments {segments}, the frames are those of the movie; --segments none samples them"
