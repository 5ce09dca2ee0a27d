"""`vis4mer extract`: from movies to a cache of their encoder tokens."""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vis4mer
from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.ignored_options import ignored_in_extraction, refuse_ignored
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import device_option, quiet_option, renamed_option
from vis4mer.cli.progress import progress_bars
from vis4mer.cli.training_options import (
    COUNT,
    FOLDER,
    PROTOCOL,
    SEED,
    encoder_options,
    given_settings,
    hide_library_logs,
    naming_options,
    setting,
)
from vis4mer.text import count
from vis4mer.training.settings import ExtractSettings

if TYPE_CHECKING:
    from vis4mer.devices.device import RequestedDevice

_PATH = click.Path(path_type=Path)


@click.command(short_help="Encode videos once, for training and evaluation.")
@click.argument("videos", metavar="VIDEO|LIST|DIR...", nargs=-1, required=True, type=_PATH)
@click.option("-o", "--output", "cache", metavar="CACHE", required=True, type=FOLDER, help="Folder for the tokens.")
@setting(
    "--protocol",
    "protocol",
    type=PROTOCOL,
    metavar="NAME",
    help="Published benchmark that sets encoder and frames: lvu/TASK, breakfast or coin.",
)
@click.option("--splits", metavar="DIR", type=FOLDER, help="Encode only the videos in --protocol's split files.")
@encoder_options
@renamed_option("--weights", "--encoder-weights")
@renamed_option("--dtype", "--cache-dtype")
@click.option("--batch-size", default=32, show_default=True, metavar="N", type=COUNT, help="Frames to encode at once.")
@click.option("--workers", default=1, show_default=True, metavar="N", type=COUNT, help="Videos to encode at once.")
@device_option("Device of the encoder; several workers share all GPUs.")
@setting("--seed", "seed", default=ExtractSettings.seed, type=SEED, help="Seed of random encoder weights.")
@quiet_option
@click.pass_context
def extract(
    ctx: click.Context,
    /,
    videos: tuple[Path, ...],
    cache: Path,
    splits: Path | None,
    batch_size: int,
    workers: int,
    device: "RequestedDevice",
    quiet: bool,
    **settings: Any,
) -> None:
    """Encode videos once, for `vis4mer train` and `vis4mer eval` with the same --cache.

    A DIR stands for all videos in it, a LIST (.csv with a column 'path', or .txt) for the videos that it lists. Videos
    already in CACHE are skipped, so the same command continues an interrupted run. A video that fails is reported on
    stderr; the others are still encoded, and the exit code is 1.
    """
    if splits is not None and (settings["protocol"] is None or len(videos) > 1):
        raise click.UsageError("--splits requires --protocol and one folder of videos")
    with naming_options(ctx):
        extract_settings = ExtractSettings.from_dict(given_settings(ctx))
    refuse_ignored(ctx, ignored_in_extraction(extract_settings))
    _show_messages(quiet)
    with (
        at_interrupt(lambda: say("interrupted", "run the same command again to continue")),
        progress_bars(hidden=quiet) as progress,
    ):
        result = vis4mer.extract(
            videos,
            cache,
            extract_settings,
            splits=splits,
            batch_size=batch_size,
            workers=workers,
            device=device,
            progress=progress,
            on_worker_start=partial(show_log_messages, quiet),
        )
    n_done = result.n_videos - len(result.errors)
    click.echo(f"{result.folder}: {n_done} of {count(result.n_videos, 'video')}, {result.n_encoded} encoded now")
    ctx.exit(1 if result.errors else 0)


def _show_messages(quiet: bool) -> None:
    show_log_messages(quiet)
    hide_library_logs()
    if not quiet:
        logging.getLogger("vis4mer").setLevel(logging.INFO)
