"""`vis4mer train`: from a listing of movies to a trained model."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.options import check_device
from vis4mer.cli.pytorch import place, require_torch
from vis4mer.config import DecoderConfig, EncoderConfig, Preprocessing, WindowConfig
from vis4mer.runtime.device import on_device
from vis4mer.training.config import Schedule, TrainConfig
from vis4mer.training.listing import Listing

_COUNT = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_BELOW_ONE = click.FloatRange(min=0, max=1, max_open=True)

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def _option(name: str, default: Any, description: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(name, default=default, show_default=True, help=description, **settings)


@click.command()
@click.argument("movies", type=click.Path(dir_okay=False, path_type=Path), metavar="MOVIES.csv")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for models and history.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of encoded movies.  [default: OUTPUT/features]")
@click.option("--resume", is_flag=True, help="Go on after the last whole epoch in OUTPUT, if there is one.")
@_option("--device", "auto", "auto, cpu, cuda or cuda:N.", callback=check_device)
@_option(
    "--val-ratio",
    0.2,
    "Share of the movies to validate on where MOVIES.csv has no column 'split'.",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
)
@_option("--encoder", EncoderConfig.name, "timm's name of a Vision Transformer; it is not trained.")
@_option("--encoder-weights", "hub", "Weight file of the encoder, 'hub' to download timm's, or 'random'.")
@_option("--image-size", Preprocessing.height, "Height and width of the encoder's frames, in pixels.", type=_COUNT)
@_option("--fps", Preprocessing.fps, "Frames encoded per second of video.", type=_POSITIVE)
@_option(
    "--window-seconds", WindowConfig.seconds, "Span that is classified at once, in seconds of video.", type=_POSITIVE
)
@_option(
    "--stride",
    WindowConfig.stride,
    "Step between the windows of validation and serving, in seconds of video.",
    type=_POSITIVE,
)
@_option("--cache-dtype", "bf16", "Number type of cached tokens.", type=click.Choice(["bf16", "fp32"]))
@_option("--head", "decoder", "Name of the trained head.")
@_option("--d-model", 1024, "Features of the head's first block; each block halves them.", type=_COUNT)
@_option("--n-layers", 3, "Blocks of the head.", type=_COUNT)
@_option("--d-state", DecoderConfig.d_state, "State size of each channel.", type=_COUNT)
@_option("--dropout", DecoderConfig.dropout, "Dropout probability.", type=_BELOW_ONE)
@_option("--epochs", TrainConfig.epochs, "Passes over the movies, one random window of each.", type=_COUNT)
@_option("--batch-size", TrainConfig.batch_size, "Windows per step.", type=_COUNT)
@_option("--lr", TrainConfig.lr, "Peak learning rate.", type=_POSITIVE)
@_option("--ssm-lr", TrainConfig.ssm_lr, "Peak learning rate of the state spaces' A, B and dt.", type=_POSITIVE)
@_option(
    "--weight-decay", TrainConfig.weight_decay, "Decay of all weights but A, B and dt.", type=click.FloatRange(min=0)
)
@_option(
    "--schedule",
    TrainConfig.schedule,
    "Learning rate over time: warm-up and cosine, or the published decay on a plateau.",
    type=click.Choice(get_args(Schedule)),
)
@_option("--warmup", TrainConfig.warmup, "Share of all steps in which the cosine schedule warms up.", type=_BELOW_ONE)
@_option("--clip-norm", TrainConfig.clip_norm, "Gradient norm to clip to.", type=_POSITIVE)
@_option(
    "--seed",
    TrainConfig.seed,
    "Seed of everything that is random, the encoder's random weights included.",
    type=click.IntRange(0, 2**32 - 1),
)
def train(
    movies: Path, output: Path, cache: Path | None, resume: bool, device: str, val_ratio: float, **options: Any
) -> None:
    """Train a head on the movies that MOVIES.csv lists.

    The file has a header row with 'path', 'label' (or 'value' for a regression) and optionally 'split' (train, val,
    test); relative paths start at its folder. The encoder turns every movie into tokens once; they are kept in the
    cache. OUTPUT/best holds the model of the epoch that validated best, OUTPUT/last the latest.
    """
    config = TrainConfig(**{field.name: options[field.name] for field in dataclasses.fields(TrainConfig)})
    preprocessing = Preprocessing(fps=options["fps"], height=options["image_size"], width=options["image_size"])
    windows = WindowConfig(options["window_seconds"], options["stride"])
    listing = Listing.read(movies, val_ratio=val_ratio, seed=config.seed)

    require_torch("training")
    show_log_messages(quiet=False)
    logging.getLogger("vis4mer").setLevel(logging.INFO)
    from vis4mer.models.encoder import FrameEncoder
    from vis4mer.training.build import build_model
    from vis4mer.training.data import Movie
    from vis4mer.training.features import FeatureCache
    from vis4mer.training.loop import Trainer
    from vis4mer.training.state import RunFolder

    folder = RunFolder(output, resume=resume)
    encoder = FrameEncoder.build(options["encoder"], preprocessing, options["encoder_weights"], config.seed)
    sizes = {name: options[name] for name in ("head", "d_model", "n_layers", "d_state", "dropout", "seed")}
    model = build_model(listing, encoder, preprocessing, windows, **sizes)
    _, processor, reason = on_device(device, lambda processor: place(model, processor))
    say("info", f"training on {processor} ({reason})")

    try:
        with Progress(*_COLUMNS, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            features = FeatureCache(cache or output / "features", encoder, preprocessing, dtype=options["cache_dtype"])
            splits = {
                split: [
                    Movie(features.tokens(example.video, example.clip), example.target)
                    for example in progress.track(listing.split(split), description=f"encoding {split} movies")
                ]
                for split in ("train", "val")
            }
            trainer = Trainer(
                model, options["head"], splits["train"], splits["val"], config, folder, device=str(processor)
            )
            task = progress.add_task("training, steps", total=None)
            trainer.run(
                on_step=lambda done, total: progress.update(task, completed=done, total=total),
                on_epoch=lambda record: say("info", _line(record)),
            )
    except KeyboardInterrupt:
        say("info", f"interrupted; --resume goes on after the last whole epoch in {output}")
        raise
    click.echo(f"{folder.best}: {_line(trainer.best)}")


def _line(record: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in record.items())
