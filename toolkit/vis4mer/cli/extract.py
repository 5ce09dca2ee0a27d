"""`vis4mer extract`: from movies to a cache of their encoder tokens."""

import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.dataset import COLUMNS, tell_missing
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import check_device
from vis4mer.cli.pytorch import place, require_torch
from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.devices.device import Device, on_device, probe_driver
from vis4mer.training.protocols import Protocol, find_protocol
from vis4mer.training.videos import Job, gather_videos

if TYPE_CHECKING:
    from vis4mer.training.extraction import CacheRecipe
    from vis4mer.training.features import FeatureCache

_COUNT = click.IntRange(min=1)
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("videos", metavar="VIDEO|LIST|DIR...", nargs=-1, required=True, type=_PATH)
@click.option("-o", "--output", "cache", metavar="CACHE", required=True, type=_PATH, help="Folder for the tokens.")
@click.option("--protocol", metavar="NAME", help="Encoder and frames of lvu/TASK, breakfast or coin.")
@click.option("--splits", metavar="DIR", type=_PATH, help="Only the videos of --protocol's lists.")
@click.option("--encoder", metavar="NAME", help=f"timm's or torchvision's name.  [default: {EncoderConfig.name}]")
@click.option("--weights", default="hub", show_default=True, help="Weight file, 'hub' to download them, or 'random'.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Frames per second of video.  [default: 1]")
@click.option("--segments", type=_COUNT, metavar="N", help="Segments per video, for an encoder that takes segments.")
@click.option("--image-size", type=_COUNT, help="Height and width of frames, in pixels.  [default: 224]")
@click.option("--dtype", default="bf16", show_default=True, type=click.Choice(["bf16", "fp32"]), help="Of the tokens.")
@click.option("--batch-size", default=32, show_default=True, metavar="N", type=_COUNT, help="Frames at once.")
@click.option("--workers", default=1, show_default=True, metavar="N", type=_COUNT, help="Videos at once.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]",
    callback=check_device,
    help="For the encoder; several workers share all GPUs.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of random weights.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no warnings on stderr.")
@click.pass_context
def extract(
    ctx: click.Context,
    /,
    videos: tuple[Path, ...],
    cache: Path,
    protocol: str | None,
    splits: Path | None,
    encoder: str | None,
    weights: str,
    segments: int | None,
    dtype: Any,
    batch_size: int,
    workers: int,
    device: str,
    seed: int,
    quiet: bool,
    **frames: Any,
) -> None:
    """Encode videos once, for `vis4mer train` and `vis4mer eval` with the same --cache.

    A DIR stands for every video in it, a LIST (.csv with a column 'path', or .txt) for those it names. What CACHE
    holds already is not encoded again, so a run that was stopped goes on where it was. A video that fails is reported
    on stderr, the others are still done, and the exit code is 1.
    """
    prescribed = None if protocol is None else find_protocol(protocol)
    preprocessing = _preprocessing(prescribed.preprocessing if prescribed else Preprocessing(), segments, **frames)
    encoder = encoder or (prescribed.encoder if prescribed else EncoderConfig.name)
    if splits is None:
        jobs = [Job(video) for video in gather_videos(videos)]
    elif prescribed is None or len(videos) > 1:
        raise click.UsageError("--splits goes with --protocol and one folder of videos")
    else:
        jobs = _jobs(prescribed, splits, videos[0])

    require_torch("encoding")
    show_log_messages(quiet)
    if not quiet:
        logging.getLogger("vis4mer").setLevel(logging.INFO)
    from vis4mer.training.extraction import CacheRecipe

    recipe = CacheRecipe(cache, encoder, weights, preprocessing, dtype, batch_size, seed)
    features = recipe.open()
    _, processor, reason = on_device(device, lambda processor: place(features.encoder, processor))
    todo = [job for job in jobs if not features.holds(*job)]
    if todo and not quiet:
        say("info", f"encoding {len(todo)} of {len(jobs)} videos on {processor} ({reason})")
    with at_interrupt(lambda: say("interrupted", "the same command goes on where this one was")):
        failed = _run(features, recipe, todo, workers, _devices(device, processor), quiet)
    index = features.write_index()
    click.echo(f"{index.parent}: {len(jobs) - failed} of {len(jobs)} videos, {len(todo) - failed} encoded now")
    ctx.exit(1 if failed else 0)


def _preprocessing(
    base: Preprocessing, segments: int | None, fps: float | None, image_size: int | None
) -> Preprocessing:
    """The protocol's or the default frames, with what the options change of them."""
    given: dict[str, Any] = {"fps": fps, "height": image_size, "width": image_size, "segments": segments}
    return dataclasses.replace(base, **{name: value for name, value in given.items() if value is not None})


def _jobs(protocol: Protocol, splits: Path, videos: Path) -> list[Job]:
    """The videos, or clips of them, that a protocol's lists name; those that are missing are told."""
    listing = protocol.listing(splits, videos)
    tell_missing(listing, protocol.name)
    return [Job(example.video, example.clip) for example in listing.examples]


def _run(
    features: "FeatureCache",
    recipe: "CacheRecipe",
    jobs: Sequence[Job],
    workers: int,
    devices: Sequence[str],
    quiet: bool,
) -> int:
    """Encodes `jobs` with a bar on stderr; returns how many failed."""
    from vis4mer.training.extraction import extract, extract_in_parallel

    with Progress(*COLUMNS, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("encoding videos", total=len(jobs))
        done = failed = 0

        def within(read: int, expected: int) -> None:
            bar.update(task, completed=done + 0.99 * read / max(read, expected))

        results: Iterator[tuple[Job, str]]
        if min(workers, len(jobs)) <= 1:
            results = extract(features, jobs, within)
        else:
            on_start = partial(show_log_messages, quiet)
            results = extract_in_parallel(recipe, jobs, min(workers, len(jobs)), devices, on_start)
        for done, (_, problem) in enumerate(results, start=1):
            bar.update(task, completed=done)
            if problem:
                failed += 1
                say("error", problem)
    return failed


def _devices(asked: str, processor: Device) -> list[str]:
    """Those that several workers take turns on: every GPU, unless one is named."""
    if processor.kind == "cpu" or ":" in asked:
        return [str(processor)]
    return [f"cuda:{index}" for index in range(len(probe_driver().gpus))]
