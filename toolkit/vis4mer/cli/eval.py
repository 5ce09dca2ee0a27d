"""`vis4mer eval`: the quality of checkpoints on a test split, beside published results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import vis4mer
from vis4mer.cli.console import say
from vis4mer.cli.eval_table import eval_table
from vis4mer.cli.options import device_option, json_option
from vis4mer.cli.progress import progress_bars
from vis4mer.cli.training_options import COUNT, FOLDER, cache_dtype_option, check_data_set, loader_workers_option
from vis4mer.packages import require
from vis4mer.training.config import TrainPrecision

if TYPE_CHECKING:
    from vis4mer.training.evaluation.report import Report


@click.command(short_help="Evaluate checkpoints on a test split.")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT...")
@click.option(
    "--movies",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="MOVIES.csv",
    help="CSV file of movies, as for vis4mer train.",
)
@click.option("--protocol", metavar="NAME", help="Published benchmark: lvu/TASK, breakfast or coin.")
@click.option("--videos", type=FOLDER, metavar="DIR", help="Folder of the benchmark's videos.")
@click.option("--splits", type=FOLDER, metavar="DIR", help="Folder of the benchmark's own split files.")
@click.option(
    "--head", metavar="NAME", help="Head to evaluate.  [default: the only one, or the one with the task's name]"
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Folder of encoded movies.  [default: features beside CHECKPOINT]"
)
@cache_dtype_option
@device_option("Device to run the heads on.")
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
    help="Folder for confusion matrices and accuracies per class, as PNG.",
)
@json_option
def eval(
    checkpoints: tuple[Path, ...],
    movies: Path | None,
    protocol: str | None,
    videos: Path | None,
    splits: Path | None,
    plots: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate CHECKPOINTs on the test split of MOVIES.csv or of a published benchmark.

    Several checkpoints of one task, trained with different seeds, are summarised by their mean and spread. Without
    --movies and --protocol, each checkpoint is evaluated on the benchmark that it was trained on, so nine
    checkpoints reproduce the LVU table.
    """
    if movies is not None or protocol is not None:
        check_data_set(movies, protocol, videos, splits)
    elif videos is None or splits is None:
        raise click.UsageError("pass --movies, or --videos and --splits")
    if plots is not None:
        require("matplotlib", purpose="for plots", extra="train")
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
        click.echo(eval_table(reports), nl=False)
    if plots is not None:
        _plot(reports, plots)


def _plot(reports: "Sequence[Report]", folder: Path) -> None:
    from vis4mer.training.evaluation.plots import plot_report

    for report in reports:
        if report.task == "classification":
            for path in plot_report(report, folder):
                say("info", f"wrote {path}")
