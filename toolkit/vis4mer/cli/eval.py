"""`vis4mer eval`: the quality of checkpoints on a test split, beside published results."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import vis4mer
from vis4mer.cli.console import say
from vis4mer.cli.eval_table import eval_table
from vis4mer.cli.options import device_option, json_option
from vis4mer.cli.predictions_file import predictions_file
from vis4mer.cli.progress import progress_bars
from vis4mer.cli.training_options import COUNT, FOLDER, cache_dtype_option, loader_workers_option
from vis4mer.errors import DataError
from vis4mer.files import check_writable, write_atomically
from vis4mer.packages import require
from vis4mer.training.config import TrainPrecision
from vis4mer.training.data.protocols import PROTOCOLS

if TYPE_CHECKING:
    from vis4mer.training.evaluation.report import Report

_PLAIN_WIDTH = 160  # characters, so that the published methods and the figures fit on one line
_PREDICTION_FORMS = (".csv", ".json")


def _check_predictions_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in _PREDICTION_FORMS:
        raise click.BadParameter(f"{value}: must end in {' or '.join(_PREDICTION_FORMS)}")
    return value


@click.command(short_help="Evaluate checkpoints on a test split.")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT...")
@click.option(
    "--movies",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="MOVIES.csv",
    help="CSV file of movies, as for vis4mer train; movies marked 'test' are enough.",
)
@click.option(
    "--protocol",
    metavar="NAME",
    type=click.Choice(tuple(PROTOCOLS)),
    help="Published benchmark: lvu/TASK, breakfast or coin.",
)
@click.option("--videos", type=FOLDER, metavar="DIR", help="Folder of the benchmark's videos.")
@click.option("--splits", type=FOLDER, metavar="DIR", help="Folder of the benchmark's own split files.")
@click.option(
    "--head", metavar="NAME", help="Head to evaluate.  [default: the only one, or the one with the task's name]"
)
@click.option(
    "--cache", type=FOLDER, metavar="DIR", help="Folder of encoded movies.  [default: features beside CHECKPOINT]"
)
@cache_dtype_option
@device_option("Device to encode movies and to run the heads on.")
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    type=click.Choice(get_args(TrainPrecision)),
    help="Precision of the heads; bf16 runs matrix products in bfloat16.",
)
@click.option(
    "--batch-size", default=32, show_default=True, metavar="N", type=COUNT, help="Windows to classify at once."
)
@loader_workers_option
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for plots, as PNG: DATA-confusion and DATA-classes, or DATA-regression.",
)
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.csv|FILE.json",
    callback=_check_predictions_file,
    help="File for the truth and the prediction of every movie.",
)
@json_option
def eval(
    checkpoints: tuple[Path, ...],
    movies: Path | None,
    protocol: str | None,
    videos: Path | None,
    splits: Path | None,
    plots: Path | None,
    predictions: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate CHECKPOINTs on the test split of MOVIES.csv or of a published benchmark.

    The accuracy, or the mean squared error of a regression, has a 95 % confidence interval and stands beside a
    baseline: the figure of predicting the most frequent class, or the mean, for every movie.

    Several checkpoints of one task, trained with different seeds, are summarised by their mean and spread. Without
    --movies and --protocol, each checkpoint is evaluated on the benchmark that it was trained on, so nine
    checkpoints reproduce the LVU table.
    """
    _check_data_set(movies, protocol, videos, splits)
    _check_outputs(plots, predictions)
    with progress_bars() as progress:
        reports = vis4mer.evaluate(
            checkpoints,
            movies=movies,
            protocol=protocol,
            videos=videos,
            splits=splits,
            progress=progress,
            **options,
        )
    if as_json:
        click.echo(json.dumps({"results": [report.to_dict() for report in reports]}, indent=2))
    else:
        # COLUMNS overrides the width of the terminal.
        click.echo(eval_table(reports, shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns), nl=False)
    if predictions is not None:
        write_atomically(predictions, predictions_file(reports, predictions.suffix.lower()))
        say("info", f"wrote {predictions}")
    if plots is not None:
        _plot(reports, plots)


def _check_data_set(movies: Path | None, protocol: str | None, videos: Path | None, splits: Path | None) -> None:
    """Checks that the options name one data set.

    Raises:
        click.UsageError: The options do not fit together.
    """
    if movies is not None:
        if protocol is not None or videos is not None or splits is not None:
            raise click.UsageError("--movies cannot be used together with --protocol, --videos or --splits")
    elif videos is None or splits is None:
        raise click.UsageError("pass --movies, or --videos and --splits of a benchmark")


def _check_outputs(plots: Path | None, predictions: Path | None) -> None:
    """Checks before the long work that its results can be written.

    Raises:
        Vis4merError: A folder or a file cannot be written, or Matplotlib is not installed.
    """
    if predictions is not None:
        check_writable(predictions)
    if plots is None:
        return
    # Its first import logs that it scans the fonts, which means nothing to the user.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    require("matplotlib", purpose="for plots", extra="train")
    try:
        plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rule = f"the folder cannot be created: {error.strerror}"
        raise DataError.of("plots", plots, rule, "choose another folder") from None
    check_writable(plots / "plot.png")


def _plot(reports: "Sequence[Report]", folder: Path) -> None:
    from vis4mer.training.evaluation.plots import plot_report

    for report in reports:
        for path in plot_report(report, folder):
            say("info", f"wrote {path}")
