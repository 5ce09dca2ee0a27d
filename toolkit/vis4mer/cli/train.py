"""`vis4mer train`: from a listing of movies to a trained model."""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.progress import Progress

from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.dataset import COLUMNS, encode_movies, missing_movies, protocol_options, tell_missing, told_once
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import check_device
from vis4mer.cli.pytorch import place, require_torch
from vis4mer.cli.train_plan import Plan, command_line, plan_training
from vis4mer.config import DecoderConfig, EncoderConfig, Preprocessing, WindowConfig
from vis4mer.devices.device import on_device
from vis4mer.training.config import Precision, Schedule, TrainConfig
from vis4mer.training.listing import Split

if TYPE_CHECKING:
    from vis4mer.training.distributed import Processes

_COUNT = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_BELOW_ONE = click.FloatRange(min=0, max=1, max_open=True)


def _option(name: str, default: Any, description: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(name, default=default, show_default=True, help=description, **settings)


@click.command()
@click.argument("movies", type=click.Path(dir_okay=False, path_type=Path), metavar="[MOVIES.csv]", required=False)
@protocol_options
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
@_option("--encoder", EncoderConfig.name, "timm's or torchvision's name of the encoder, which is not trained.")
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
@click.option("--segments", type=_COUNT, help="Segments encoded per video, for an encoder of segments.")
@click.option("--samples", type=_COUNT, help="Frames or segments, spread over the whole movie, that make one window.")
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
@_option("--precision", TrainConfig.precision, "bf16 is autocast.", type=click.Choice(get_args(Precision)))
@click.option(
    "--as-published",
    is_flag=True,
    help="Repeat the faults of the published code: its scheduler, and choosing the epoch on the test split.",
)
@_option("--workers", 0, "Processes that read tokens; a GPU wants several.", type=click.IntRange(min=0))
@click.option("--tensorboard", is_flag=True, help="Write curves to OUTPUT/tensorboard.")
@_option(
    "--seed",
    TrainConfig.seed,
    "Seed of everything that is random, the encoder's random weights included.",
    type=click.IntRange(0, 2**32 - 1),
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    movies: Path | None,
    protocol: str | None,
    videos: Path | None,
    splits: Path | None,
    **options: Any,
) -> None:
    """Train a head on the movies that MOVIES.csv lists, or on a published benchmark's.

    The file has a header row with 'path', 'label' (or 'value' for a regression) and optionally 'split' (train, val,
    test); relative paths start at its folder. A benchmark brings its own settings; options given besides change them.
    The encoder turns every movie into tokens once; they are kept in the cache. OUTPUT/best holds the model of the
    epoch that validated best, OUTPUT/last the latest.

    Under torchrun, several processes share each step's windows: torchrun --nproc-per-node 8 --no-python vis4mer train
    """
    with told_once():
        plan = plan_training(ctx, movies, protocol, videos, splits, options)
        require_torch("training")
    from vis4mer.training.distributed import join_processes

    with join_processes() as processes:
        show_log_messages(quiet=not processes.is_main)
        if processes.is_main:
            logging.getLogger("vis4mer").setLevel(logging.INFO)
            tell_missing(plan.listing, protocol or str(movies))
        command = command_line(ctx)
        with at_interrupt(lambda: _tell_interrupted(command, processes)):
            _train(plan, processes, command, **options)


def _train(
    plan: Plan,
    processes: "Processes",
    command: str,
    *,
    output: Path,
    cache: Path | None,
    resume: bool,
    device: str,
    workers: int,
    tensorboard: bool,
    **options: Any,
) -> None:
    from vis4mer.models.encoder import FrameEncoder
    from vis4mer.training.build import build_model
    from vis4mer.training.checks import check_cache
    from vis4mer.training.curves import Curves
    from vis4mer.training.features import FeatureCache
    from vis4mer.training.loop import Trainer
    from vis4mer.training.provenance import Origin
    from vis4mer.training.state import RunFolder

    with processes.together():
        folder = RunFolder(output, resume=resume)
        encoder = FrameEncoder.build(plan.encoder, plan.preprocessing, options["encoder_weights"], plan.config.seed)
        sizes = {name: options[name] for name in ("d_model", "n_layers", "d_state", "dropout", "seed")}
        model = build_model(plan.listing, encoder, plan.preprocessing, plan.windows, head=plan.head, **sizes)
        _, processor, reason = on_device(processes.device(device), lambda processor: place(model, processor))
        features = FeatureCache(cache or output / "features", encoder, plan.preprocessing, dtype=options["cache_dtype"])
        check_cache(features)
        curves = Curves(output / "tensorboard") if tensorboard and processes.is_main else None
    together = f" in {processes.count} processes" if processes.count > 1 else ""
    _inform(processes, f"training on {processor} ({reason}){together}")

    names: tuple[Split, ...] = ("train", "val", "test")
    origin = Origin(
        command,
        plan.protocol.name if plan.protocol else None,
        plan.chosen_on,
        {name: missing_movies(plan.listing, name) for name in names},
    )
    hidden = not (processes.is_main and sys.stderr.isatty())
    with Progress(*COLUMNS, console=Console(stderr=True), disable=hidden) as progress:
        trainer = Trainer(
            model,
            plan.head,
            encode_movies(features, plan.train, "train", progress, processes),
            encode_movies(features, plan.val, plan.chosen_on, progress, processes),
            plan.config,
            folder,
            device=str(processor),
            workers=workers,
            processes=processes,
            origin=origin,
        )
        task = progress.add_task("training, steps", total=None)

        def on_epoch(record: Mapping[str, float]) -> None:
            if curves:
                curves.add(record)
            _inform(processes, _line(record))

        trainer.run(
            on_step=lambda done, total: progress.update(task, completed=done, total=total),
            on_epoch=on_epoch,
        )
    if processes.is_main:
        click.echo(f"{folder.best}: {_line(trainer.best)}")


def _inform(processes: "Processes", message: str) -> None:
    if processes.is_main:
        say("info", message)


def _tell_interrupted(command: str, processes: "Processes") -> None:
    again = command if "--resume" in command.split() else f"{command} --resume"
    _inform(processes, f"interrupted; to go on after the last whole epoch: {again}")


def _line(record: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in record.items())
