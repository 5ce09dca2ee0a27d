"""`vis4mer run`: predictions for movies."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import click

from vis4mer.cli.console import is_terminal, say, show_log_messages
from vis4mer.cli.destinations import form_of_file, is_stdout, refuse_to_overwrite, require_writable
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.memory import memory_errors
from vis4mer.cli.options import check_seconds, device_option, quiet_option
from vis4mer.config import VideoDecoder
from vis4mer.errors import VideoError, Vis4merError

if TYPE_CHECKING:
    from vis4mer.cli.report import FormName
    from vis4mer.cli.results import Results
    from vis4mer.devices.device import RequestedDevice
    from vis4mer.video.movie import Movie


def _timeline_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.lower().endswith((".png", ".html")):
        raise click.BadParameter("must end in .png or .html")
    return value


@click.command()
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=click.Path())
@click.option("--bundle", metavar="DIR", type=click.Path(), help="Bundle or checkpoint.  [default: the sample bundle]")
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
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Movies to decode at once.  [default: 1 on a CPU, 4 on a GPU]",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="File for the results, instead of stdout. - is stdout; pipes and open descriptors are written to as they are.",
)
@click.option(
    "--output-format",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    help="Format of the results.  [default: by the suffix of --output (.json, .jsonl, .csv, .txt), else table]",
)
@click.option("--windows", is_flag=True, help="Write each window's start, end and probabilities, as rows of a CSV.")
@click.option(
    "--timeline",
    metavar="FILE.png|FILE.html",
    type=click.Path(),
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
    jobs: int | None,
    output: str | None,
    output_format: "FormName | None",
    windows: bool,
    timeline: str | None,
    quiet: bool,
) -> None:
    """Classify each VIDEO.

    A video that fails is reported on stderr and in the results; the others are still classified, and the exit code
    is 1.
    """
    if timeline is not None and len(videos) > 1:
        raise click.UsageError("--timeline draws one video; run each video separately")
    output = None if is_stdout(output) else output
    refuse_to_overwrite(videos, output, timeline)
    form_name = output_format or form_of_file(output)
    if windows and form_name != "csv":
        raise click.UsageError("--windows applies to CSV only; use it with --output-format csv")
    show_log_messages(quiet)
    require_writable(output, timeline)

    from vis4mer.cli.frame_progress import MovieProgress
    from vis4mer.cli.report import report_form
    from vis4mer.cli.results import Results
    from vis4mer.runtime.loading import load
    from vis4mer.timeline import save_timeline
    from vis4mer.video import scan

    classifier = load(bundle, device=device, precision=precision)
    on_terminal = output is None and is_terminal(sys.stdout)
    results = Results(report_form(form_name, windows=windows, on_terminal=on_terminal), output)

    def inform(message: str) -> None:
        if not quiet:
            say("info", message)

    def fail(number: int, error: Vis4merError) -> None:
        say("error", str(error))
        results.fail(number, videos[number], error)

    movie, drawn = None, True
    with at_interrupt(lambda: _save_finished(results, len(videos), quiet)):
        movies: list[str | Movie] = list(videos)
        if timeline is not None:
            # The classifier and the timeline of the only video share one scan.
            try:
                with memory_errors(videos[0]):
                    movies = [movie := scan(videos[0])]
            except Vis4merError as error:
                fail(0, error)
                movies = []
        jobs = min(jobs or classifier.default_jobs, len(videos))
        progress = MovieProgress(videos, jobs=jobs, hidden=quiet)
        outcomes = classifier.map(
            movies,
            jobs=jobs,
            stride=stride,
            batch_size=batch_size,
            video_decoder=video_decoder,
            progress=progress.report,
            in_order=False,  # so that an interrupt loses no result that waits for an earlier movie's
        )
        for outcome in progress.shown_for(outcomes):
            number, video = outcome.number, videos[outcome.number]
            try:
                with memory_errors(video):
                    prediction = outcome.result()
            except Vis4merError as error:
                fail(number, error)
                continue
            results.add(number, prediction)
            if bundle is None and results.done == 1:
                inform("using the sample model, made for films like the sample movie; --bundle selects another")
            if prediction.damage and not quiet:
                say("warning", str(VideoError.of("video", video, "; ".join(prediction.damage.notes))))
            if timeline is not None:
                drawn = _draw(partial(save_timeline, prediction, timeline, movie))
                if drawn:
                    inform(f"wrote {timeline}")
        if results.close():
            inform(f"wrote {output}")
    if len(videos) > 1:
        failures = f"; {results.failed} failed" if results.failed else ""
        inform(f"{results.done} of {len(videos)} movies classified{failures}")
    ctx.exit(1 if results.failed or not drawn else 0)


def _save_finished(results: "Results", n_videos: int, quiet: bool) -> None:
    """Saves what an interrupted command has done. This may run in another thread, in which nothing catches an error."""
    say("interrupted", f"{results.done} of {n_videos} videos done")
    try:
        saved = results.interrupt()
    except Vis4merError as error:  # its message names the file that holds the results instead
        say("error", str(error))
    else:
        if saved and not quiet:
            say("info", f"wrote {results.output}")


def _draw(save: Callable[[], None]) -> bool:
    """Saves a timeline, or reports why it cannot be saved; the results are still written then."""
    try:
        save()
    except Vis4merError as error:
        say("error", str(error))
        return False
    return True
