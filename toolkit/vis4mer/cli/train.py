"""`vis4mer train`: from a data set to a trained model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import vis4mer
from vis4mer.cli.command_line import command_line
from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import device_option
from vis4mer.cli.progress import progress_bars
from vis4mer.cli.training_options import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    FOLDER,
    POSITIVE,
    SEED,
    check_data_set,
    encoder_options,
    given_settings,
    loader_workers_option,
    setting,
)
from vis4mer.config import WindowConfig
from vis4mer.packages import require
from vis4mer.training.config import Schedule, TrainConfig, TrainPrecision
from vis4mer.training.launch import is_main_process, one_error_per_machine
from vis4mer.training.mapping import merged
from vis4mer.training.settings import DataSettings, HeadSettings, TrainSettings

if TYPE_CHECKING:
    from vis4mer.devices.device import RequestedDevice


@click.command(short_help="Train a head on your movies or on a published benchmark.")
@click.argument("movies", type=click.Path(dir_okay=False, path_type=Path), metavar="[MOVIES.csv]", required=False)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.yaml",
    help="Settings of the run, such as another run's settings.yaml. Other options override them. "
    "MOVIES.csv replaces the file's CSV; a file with a benchmark keeps it.",
)
@setting(
    "--protocol",
    "data.protocol",
    metavar="NAME",
    help="Published benchmark, with its own settings: lvu/TASK, breakfast or coin.",
)
@setting("--videos", "data.videos", type=FOLDER, metavar="DIR", help="Folder of the benchmark's videos.")
@setting("--splits", "data.splits", type=FOLDER, metavar="DIR", help="Folder of the benchmark's own split files.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for models and history.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of encoded movies.  [default: OUTPUT/features]")
@click.option("--resume", is_flag=True, help="Continue the run in OUTPUT after its last complete epoch, if any.")
@device_option("Device to encode and train on.")
@setting(
    "--val-ratio",
    "data.val_ratio",
    default=DataSettings.val_ratio,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Fraction of the movies to validate on if MOVIES.csv has no column 'split'.",
)
@encoder_options
@setting(
    "--window-seconds",
    "windows.seconds",
    default=WindowConfig.seconds,
    type=POSITIVE,
    help="Length of the windows, in seconds of video.",
)
@setting(
    "--stride",
    "windows.stride",
    default=WindowConfig.stride,
    type=POSITIVE,
    help="Time between the starts of windows in validation and serving, in seconds of video.",
)
@setting(
    "--samples",
    "windows.samples",
    metavar="N|none",
    type=COUNT_OR_NONE,
    help="Frames or segments, spread over the whole movie, that make up its only window; 'none' cuts windows.",
)
@setting("--head", "head.name", default=HeadSettings.name, metavar="NAME", help="Name of the trained head.")
@setting(
    "--d-model",
    "head.d_model",
    default=HeadSettings.d_model,
    type=COUNT,
    help="Features of the head's first block; each block halves them.",
)
@setting("--n-layers", "head.n_layers", default=HeadSettings.n_layers, type=COUNT, help="Blocks of the head.")
@setting("--d-state", "head.d_state", default=HeadSettings.d_state, type=COUNT, help="State size of each channel.")
@setting("--dropout", "head.dropout", default=HeadSettings.dropout, type=BELOW_ONE, help="Dropout probability.")
@setting(
    "--epochs",
    "training.epochs",
    default=TrainConfig.epochs,
    type=COUNT,
    help="Passes over the movies, with one random window of each.",
)
@setting("--batch-size", "training.batch_size", default=TrainConfig.batch_size, type=COUNT, help="Windows per step.")
@setting("--lr", "training.lr", default=TrainConfig.lr, type=POSITIVE, help="Peak learning rate.")
@setting(
    "--ssm-lr",
    "training.ssm_lr",
    default=TrainConfig.ssm_lr,
    type=POSITIVE,
    help="Peak learning rate of the state spaces' A, B and dt.",
)
@setting(
    "--weight-decay",
    "training.weight_decay",
    default=TrainConfig.weight_decay,
    type=click.FloatRange(min=0),
    help="Weight decay of all parameters except A, B and dt.",
)
@setting(
    "--schedule",
    "training.schedule",
    default=TrainConfig.schedule,
    type=click.Choice(get_args(Schedule)),
    help="Learning rate over time: warm-up and cosine, or the published decay on a plateau.",
)
@setting(
    "--warmup",
    "training.warmup",
    default=TrainConfig.warmup,
    type=BELOW_ONE,
    help="Fraction of all steps that the cosine schedule spends warming up.",
)
@setting(
    "--clip-norm",
    "training.clip_norm",
    default=TrainConfig.clip_norm,
    type=POSITIVE,
    help="Norm to which larger gradients are clipped.",
)
@setting(
    "--precision",
    "training.precision",
    default=TrainConfig.precision,
    type=click.Choice(get_args(TrainPrecision)),
    help="Precision of training; bf16 runs matrix products in bfloat16 (autocast).",
)
@setting(
    "--as-published/--no-as-published",
    "training.as_published",
    help="Reproduce the defects of the published code: its schedule, and the choice of the epoch on the test split.",
)
@setting(
    "--seed",
    "training.seed",
    default=TrainConfig.seed,
    type=SEED,
    help="Seed of everything random, including random encoder weights.",
)
@loader_workers_option
@click.option("--tensorboard", is_flag=True, help="Write curves to OUTPUT/tensorboard.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    movies: Path | None,
    config: Path | None,
    output: Path,
    cache: Path | None,
    resume: bool,
    device: "RequestedDevice",
    loader_workers: int,
    tensorboard: bool,
    **settings: Any,
) -> None:
    """Train a head on the movies that MOVIES.csv lists, or on a published benchmark.

    MOVIES.csv has a header row with 'path', 'label' (or 'value' for a regression) and optionally 'split' (train, val,
    test); relative paths start at its folder. Every movie is encoded once; the cache keeps its tokens. OUTPUT/best
    holds the model of the epoch with the best validation result, OUTPUT/last the latest model, and OUTPUT/settings.yaml
    the settings, which --config takes to repeat the run.

    Under torchrun, several processes share each step's windows: torchrun --nproc-per-node 8 --no-python vis4mer train
    """
    if config is None:
        check_data_set(movies, settings["protocol"], settings["videos"], settings["splits"])
    is_main = is_main_process()
    show_log_messages(quiet=not is_main)
    if is_main:
        logging.getLogger("vis4mer").setLevel(logging.INFO)
    command = command_line(ctx)
    with one_error_per_machine():
        train_settings = settings_of(ctx)
    with (
        at_interrupt(lambda: _report_interrupt(command, is_main)),
        progress_bars(hidden=not is_main) as progress,
    ):
        result = vis4mer.train(
            train_settings,
            output,
            cache=cache,
            resume=resume,
            device=device,
            loader_workers=loader_workers,
            tensorboard=tensorboard,
            command=command,
            progress=progress,
            on_epoch=_report_epoch if is_main else None,
        )
    if is_main:
        click.echo(f"{result.best}: {_line(result.best_epoch)}")


def settings_of(ctx: click.Context) -> TrainSettings:
    """Returns the settings on the command line, which override those of the settings file, if there is one.

    Raises:
        ConfigError: A setting breaks its rule, or the file cannot be read.
        MissingDependencyError: PyYAML is not installed.
    """
    given = given_settings(ctx)
    if (movies := ctx.params["movies"]) is not None:
        given = merged(given, {"data": {"movies": str(movies)}})
    if ctx.params["config"] is None:
        return TrainSettings.from_dict(given)
    require("yaml", purpose="for settings files", extra="train")
    from vis4mer.training.settings_file import read_settings

    return read_settings(ctx.params["config"], given)


def _report_interrupt(command: str, is_main: bool) -> None:
    if is_main:
        again = command if "--resume" in command.split() else f"{command} --resume"
        say("info", f"interrupted; continue after the last complete epoch with: {again}")


def _report_epoch(record: Mapping[str, float]) -> None:
    say("info", _line(record))


def _line(record: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in record.items())
