"""`vis4mer eval`: how well checkpoints do on the test split, beside what was published."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.progress import Progress

from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.dataset import (
    COLUMNS,
    encode_movies,
    missing_movies,
    movies_of,
    protocol_options,
    read_listing,
    tell_missing,
)
from vis4mer.cli.eval_table import eval_table
from vis4mer.cli.options import device_option
from vis4mer.cli.pytorch import place, require_torch
from vis4mer.config import ModelConfig
from vis4mer.devices.device import on_device
from vis4mer.errors import CheckpointError, ConfigError, MissingDependencyError
from vis4mer.training.config import Precision
from vis4mer.training.listing import Example, Listing
from vis4mer.training.protocols import PROTOCOLS, Protocol, find_protocol

if TYPE_CHECKING:
    from vis4mer.training.report import Report, Run

_COUNT = click.IntRange(min=1)


@click.command(short_help="Measure checkpoints on a test split.")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT...")
@click.option("--movies", type=click.Path(dir_okay=False, path_type=Path), metavar="MOVIES.csv", help="As for train.")
@protocol_options
@click.option("--head", metavar="NAME", help="Head to measure.  [default: the only one, or the one named as the task]")
@click.option("--cache", type=click.Path(path_type=Path), help="Encoded movies.  [default: features beside CHECKPOINT]")
@click.option("--cache-dtype", default="bf16", show_default=True, type=click.Choice(["bf16", "fp32"]))
@device_option("Device to run the heads on.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(get_args(Precision)))
@click.option("--batch-size", default=32, show_default=True, metavar="N", type=_COUNT, help="Windows at once.")
@click.option("--workers", default=0, show_default=True, metavar="N", type=click.IntRange(min=0), help="Token readers.")
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Draw classifications.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as a JSON object.")
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
    """Measure CHECKPOINTs on the test split of MOVIES.csv or of a published benchmark.

    Several checkpoints of one task, trained with other seeds, give a mean and a spread. Without --movies and
    --protocol each is measured on the benchmark it was trained on, so that nine of them give the table of LVU.
    """
    if movies is None and protocol is None and (videos is None or splits is None):
        raise click.UsageError("give --movies, or --videos and --splits")
    named = None
    if movies is not None or protocol is not None:
        named = _DataSet.read(movies, None if protocol is None else find_protocol(protocol), videos, splits)
    require_torch("evaluating")
    if plots is not None:
        _require_matplotlib()
    show_log_messages(quiet=False)

    data_sets: dict[str, _DataSet] = {}
    chosen = []
    for checkpoint in checkpoints:  # before anything is measured, which takes long
        data_set = named or _DataSet.read(None, _recorded_protocol(checkpoint), videos, splits)
        chosen.append(data_sets.setdefault(data_set.name, data_set))
    for data_set in data_sets.values():
        tell_missing(data_set.listing, data_set.name)
    with Progress(*COLUMNS, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        runs = [
            _measure(checkpoint, data_set, progress, **options)
            for checkpoint, data_set in zip(checkpoints, chosen, strict=True)
        ]
    reports = [
        data_set.report([run for run, its in zip(runs, chosen, strict=True) if its is data_set])
        for data_set in data_sets.values()
    ]

    if as_json:
        click.echo(json.dumps({"results": [report.to_dict() for report in reports]}, indent=2))
    else:
        click.echo(eval_table(reports), nl=False)
    if plots is not None:
        _plot(reports, plots)


@dataclass(frozen=True)
class _DataSet:
    name: str
    protocol: Protocol | None
    listing: Listing
    tested: tuple[Example, ...]

    @classmethod
    def read(
        cls, movies: Path | None, protocol: Protocol | None, videos: Path | None, splits: Path | None
    ) -> "_DataSet":
        listing = read_listing(movies, protocol, videos, splits)
        name = protocol.name if protocol else Path(movies or "").name
        return cls(name, protocol, listing, movies_of(listing, "test"))

    def report(self, runs: "Sequence[Run]") -> "Report":
        from vis4mer.training.report import Report

        unit = 100 if self.listing.task == "classification" else 1
        published = {name: value / unit for name, value in self.protocol.published.items()} if self.protocol else {}
        missing = missing_movies(self.listing, "test")
        return Report(self.name, self.listing.task, self.listing.labels, missing, published, tuple(runs))


def _measure(
    checkpoint: Path,
    data_set: _DataSet,
    progress: Progress,
    *,
    head: str | None,
    cache: Path | None,
    cache_dtype: Any,
    device: str,
    precision: Precision,
    batch_size: int,
    workers: int,
) -> "Run":
    import torch

    from vis4mer.models.checkpoint import load_checkpoint
    from vis4mer.training.checks import check_movies, class_order
    from vis4mer.training.data import evaluation_windows
    from vis4mer.training.distributed import ALONE
    from vis4mer.training.evaluate import evaluate
    from vis4mer.training.features import FeatureCache
    from vis4mer.training.provenance import read_record
    from vis4mer.training.report import Run

    model = load_checkpoint(checkpoint)
    if model.encoder is None:
        raise CheckpointError(f"checkpoint={str(checkpoint)!r}: holds decoders only, which do not take movies")
    name = head or _head_name(model.config, data_set)
    decoder, config = model.head(name), model.config.heads[name]
    order = class_order(data_set.listing, config, str(checkpoint))
    _, processor, _ = on_device(device, lambda processor: place(model, processor))
    folder = cache or checkpoint.parent / "features"
    features = FeatureCache(folder, model.encoder, model.config.preprocessing, dtype=cache_dtype)
    # The head's classes may be in another order than the data set's.
    examples = [
        replace(example, target=order[int(example.target)]) if order else example for example in data_set.tested
    ]
    movies = encode_movies(features, examples, "test", progress, ALONE)
    check_movies(model, name, movies, "test")
    evaluation = evaluate(
        decoder,
        evaluation_windows(movies, model.config),
        config.task,
        batch_size=batch_size,
        device=torch.device(str(processor)),
        precision=precision,
        workers=workers,
    )
    record = read_record(checkpoint)
    return Run(
        str(checkpoint),
        evaluation.reordered(order) if order else evaluation,
        record.get("settings", {}).get("seed"),
        record.get("chosen_on") == "test",
    )


def _head_name(model: ModelConfig, data_set: _DataSet) -> str:
    """The only head, or the one that is called as the benchmark's task."""
    if len(model.heads) == 1:
        return next(iter(model.heads))
    name = data_set.name.rpartition("/")[2]
    if data_set.protocol is None or name not in model.heads:
        raise ConfigError(f"heads={', '.join(model.heads)}: give --head with one of them")
    return name


def _recorded_protocol(checkpoint: Path) -> Protocol:
    from vis4mer.training.provenance import RECORD_FILE, read_record

    name = read_record(checkpoint).get("protocol")
    if name not in PROTOCOLS:
        rule = f"its {RECORD_FILE} names no benchmark; give --protocol or --movies"
        raise ConfigError(f"checkpoint={str(checkpoint)!r}: {rule}")
    return PROTOCOLS[name]


def _plot(reports: "Sequence[Report]", folder: Path) -> None:
    from vis4mer.training.plots import plot_report

    for report in reports:
        if report.task == "classification":
            for path in plot_report(report, folder):
                say("info", f"wrote {path}")


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        rule = "is needed for --plots; pip install 'vis4mer[train]'"
        raise MissingDependencyError(f"package='matplotlib': {rule}") from None
