"""`vis4mer run`: predictions for movies."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from vis4mer.cli.console import is_terminal, say, show_log_messages
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import check_seconds, device_option, quiet_option
from vis4mer.config import VideoDecoder
from vis4mer.errors import VideoError, Vis4merError
from vis4mer.files import check_writable, same_file

if TYPE_CHECKING:
    from vis4mer.cli.report import FormName
    from vis4mer.devices.device import RequestedDevice


def _timeline_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.lower().endswith((".png", ".html")):
        raise click.BadParameter("must end in .png or .html")
    return value


@click.command()
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@click.option("--bundle", metavar="DIR", help="Bundle or checkpoint.  [default: the sample bundle]")
@device_option("Device to run the model on.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Precision of a checkpoint's encoder; auto takes bf16 if it is faster and accurate enough. A bundle runs in "
    "the precision of its export.",
)
@click.option(
    "--video-decoder",
    type=click.Choice(get_args(VideoDecoder)),
    default="auto",
    show_default=True,
    help="Video decoder; auto chooses by device and codec.",
)
@click.option(
    "--stride",
    type=float,
    metavar="S",
    callback=check_seconds,
    help="Seconds between the starts of windows.  [default: the model's stride]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Frames to encode at once.",
)
@click.option("-o", "--output", metavar="FILE", help="File for the results, instead of stdout.")
@click.option(
    "--output-format",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    help="Format of the results.  [default: by the suffix of --output, else table]",
)
@click.option(
    "--timeline",
    metavar="FILE.png|FILE.html",
    callback=_timeline_file,
    help="File for a timeline: probabilities over time, with thumbnails.",
)
@quiet_option
@click.pass_context
def run(
    ctx: click.Context,
    videos: tuple[str, ...],
    bundle: str | None,
    device: "RequestedDevice",
    precision: Literal["auto", "fp32", "bf16"],
    video_decoder: VideoDecoder,
    stride: float | None,
    batch_size: int,
    output: str | None,
    output_format: "FormName | None",
    timeline: str | None,
    quiet: bool,
) -> None:
    """Classify each VIDEO.

    A video that fails is reported on stderr; the others are still classified, and the exit code is 1.
    """
    if timeline is not None and len(videos) > 1:
        raise click.UsageError("--timeline draws one video; run each video separately")
    _refuse_to_overwrite(videos, output, timeline)
    show_log_messages(quiet)
    _require_writable(output, timeline)

    from vis4mer.cli.frame_progress import MovieProgress
    from vis4mer.cli.report import form_of_file, report_form
    from vis4mer.cli.results import Results
    from vis4mer.runtime.loading import load
    from vis4mer.timeline import save_timeline
    from vis4mer.video import scan

    classifier = load(bundle, device=device, precision=precision)
    classify = partial(classifier, stride=stride, batch_size=batch_size, video_decoder=video_decoder)
    form = report_form(
        output_format or form_of_file(output),
        several=len(videos) > 1,
        on_terminal=output is None and is_terminal(sys.stdout),
    )
    results, progress, failed = Results(form, output), MovieProgress(videos, hidden=quiet), False

    def save_finished() -> None:
        say("interrupted", f"{len(results)} of {len(videos)} videos done")
        if len(results) > 0:
            results.save()

    with at_interrupt(save_finished):
        for number, video in enumerate(videos, start=1):
            try:
                _refuse_url(video)
                with progress.movie(number) as report_frames:
                    movie = scan(video)
                    prediction = classify(movie, progress=report_frames)
                results.add(prediction)
                if bundle is None and len(results) == 1 and not quiet:
                    say(
                        "info", "using the sample model, made for films like the sample movie; --bundle selects another"
                    )
                if timeline is not None:
                    save_timeline(prediction, timeline, movie)
                if prediction.damage and not quiet:
                    say("warning", str(VideoError.of("video", video, "; ".join(prediction.damage.notes))))
            except Vis4merError as error:
                say("error", str(error))
                failed = True
        results.close()
    ctx.exit(1 if failed else 0)


def _refuse_to_overwrite(videos: Sequence[str], output: str | None, timeline: str | None) -> None:
    """Raises UsageError if a result would replace a video or another result."""
    for option, path in (("--output", output), ("--timeline", timeline)):
        if path is not None and any(same_file(path, video) for video in videos):
            raise click.UsageError(f"{option} {path!r} is one of the videos; choose another file")
    if output is not None and timeline is not None and same_file(output, timeline):
        raise click.UsageError(f"--output and --timeline are both {output!r}; choose two files")


def _require_writable(output: str | None, timeline: str | None) -> None:
    """Raises Vis4merError, before the work, if its results could not be written."""
    if output is None and sys.stdout is None:
        raise Vis4merError("output=stdout: is closed; write to a file with --output")
    for path in (output, timeline):
        if path is not None:
            check_writable(path)


def _refuse_url(video: str) -> None:
    if "://" in video and not Path(video).exists():
        raise VideoError.of("video", video, "URLs are not opened", "download it first")
