"""`vis4mer train`: from a data set to a trained model."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console

import vis4mer
from vis4mer.cli.command_line import command_line
from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.epochs import epoch_line
from vis4mer.cli.ignored_options import ignored_in_training, refuse_ignored
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import device_option
from vis4mer.cli.progress import progress_bars
from vis4mer.cli.training_options import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    FILE,
    FOLDER,
    POSITIVE,
    PROTOCOL,
    SEED,
    check_data_set,
    encoder_options,
    given_settings,
    hide_library_logs,
    loader_workers_option,
    naming_options,
    setting,
)
from vis4mer.config import WindowConfig
from vis4mer.errors import VideoError
from vis4mer.packages import require
from vis4mer.training.config import Schedule, TrainConfig, TrainPrecision
from vis4mer.training.launch import is_main_process, one_error_per_machine
from vis4mer.training.mapping import merged
from vis4mer.training.progress import EpochRecord
from vis4mer.training.result import best_epoch, read_history
from vis4mer.training.settings import SETTINGS_FILE, DataSettings, HeadSettings, TrainSettings

if TYPE_CHECKING:
    from vis4mer.devices.device import RequestedDevice

_FULL_LINE = 1000  # characters, more than any line has


@click.command(short_help="Train a head on your movies or on a published benchmark.")
@click.argument("movies", type=FILE, metavar="[MOVIES.csv]", required=False)
@click.option(
    "--config",
    type=FILE,
    metavar="FILE.yaml",
    help="Settings of the run, such as another run's settings.yaml. Other options override them. "
    "MOVIES.csv replaces the file's CSV; a file with a benchmark keeps it.",
)
@setting(
    "--protocol",
    "data.protocol",
    type=PROTOCOL,
    metavar="NAME",
    help="Published benchmark, with its own settings: lvu/TASK, breakfast or coin.",
)
@setting("--videos", "data.videos", type=FOLDER, metavar="DIR", help="Folder of the benchmark's videos.")
@setting("--splits", "data.splits", type=FOLDER, metavar="DIR", help="Folder of the benchmark's own split files.")
@click.option("-o", "--output", required=True, type=FOLDER, help="Folder for models and history.")
@click.option(
    "--cache",
    type=FOLDER,
    help="Folder of encoded movies.  [default: that of the resumed run, or OUTPUT/features]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in OUTPUT after its last complete epoch. Without MOVIES.csv, --protocol and --config, its "
    "own settings are used.",
)
@device_option("Device to encode and train on.")
@setting(
    "--val-ratio",
    "data.val_ratio",
    default=DataSettings.val_ratio,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Fraction of the movies to validate on if MOVIES.csv has no column 'split'.",
)
@setting(
    "--skip-unreadable/--no-skip-unreadable",
    "data.skip_unreadable",
    help="Leave out movies that are missing or cannot be decoded, instead of ending. They are listed in training.json.",
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
    is_main = is_main_process()
    show_log_messages(quiet=not is_main)
    hide_library_logs()
    if is_main:
        logging.getLogger("vis4mer").setLevel(logging.INFO)
    command = command_line(ctx)
    with one_error_per_machine():
        train_settings = settings_of(ctx)
        refuse_ignored(ctx, ignored_in_training(ctx, train_settings))

    def report_epoch(record: EpochRecord) -> None:
        best = best_epoch(read_history(output))["epoch"]
        _print(epoch_line(record, n_epochs, width, is_best=record["epoch"] == best))

    n_epochs, width = train_settings.training.epochs, Console(stderr=True).width
    with (
        at_interrupt(lambda: _report_interrupt(command, is_main)),
        progress_bars(hidden=not is_main) as progress,
        _hint_at_skipping(),
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
            on_epoch=report_epoch if is_main else None,
        )
    if is_main:
        click.echo(f"{result.best}: {epoch_line(result.best_epoch, n_epochs, _FULL_LINE)}")


def settings_of(ctx: click.Context) -> TrainSettings:
    """Returns the settings on the command line, which override those of the settings file, if there is one.

    Raises:
        click.UsageError: A setting on the command line breaks its rule, or there is no data set.
        ConfigError: A setting of the file breaks its rule, or the file cannot be read.
        MissingDependencyError: PyYAML is not installed.
    """
    given, file = given_settings(ctx), _settings_file(ctx)
    if (movies := ctx.params["movies"]) is not None:
        given = merged(given, {"data": {"movies": str(movies)}})
    with naming_options(ctx):
        if file is None:
            check_data_set(movies, *(ctx.params[name] for name in ("protocol", "videos", "splits")))
            return TrainSettings.from_dict(given)
        require("yaml", purpose="for settings files", extra="train")
        from vis4mer.training.settings_file import read_settings

        return read_settings(file, given)


def _settings_file(ctx: click.Context) -> Path | None:
    """Returns the file that the user named, or that of the run to resume if the command line names no data set."""
    config: Path | None = ctx.params["config"]
    if config is not None or not ctx.params["resume"] or ctx.params["movies"] or ctx.params["protocol"]:
        return config
    stored: Path = ctx.params["output"] / SETTINGS_FILE
    if not stored.is_file():
        raise click.UsageError(
            f"--resume: {ctx.params['output']} holds no run; pass a CSV of movies or --protocol", ctx
        )
    return stored


@contextmanager
def _hint_at_skipping() -> Iterator[None]:
    try:
        yield
    except VideoError as error:
        raise VideoError(f"{error}; --skip-unreadable trains without such movies") from None


def _report_interrupt(command: str, is_main: bool) -> None:
    if is_main:
        again = command if "--resume" in command.split() else f"{command} --resume"
        say("info", f"interrupted; continue with: {again}")


def _print(line: str) -> None:
    """Prints a line on stderr, above the progress bars; sys.stderr is None if the process was started without it."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)
