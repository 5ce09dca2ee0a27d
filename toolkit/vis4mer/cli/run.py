"""`vis4mer run`: movies in, predictions out."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click

from vis4mer.cli.console import say, show_log_messages
from vis4mer.cli.interrupt import at_interrupt
from vis4mer.cli.options import check_seconds, device_option
from vis4mer.errors import VideoError, Vis4merError
from vis4mer.text import printable

if TYPE_CHECKING:
    from rich.progress import Task

    from vis4mer.cli.report import FormName
    from vis4mer.runtime.classifier import Progress


def _timeline_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.lower().endswith((".png", ".html")):
        raise click.BadParameter("must end in .png or .html")
    return value


@click.command()
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@click.option("--bundle", metavar="DIR", help="Bundle or checkpoint; the installed sample bundle where not given.")
@device_option("Device to run the model on.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of a checkpoint's encoder; auto takes bf16 where that is faster and near enough. A bundle has its own.",
)
@click.option(
    "--video-decoder",
    type=click.Choice(["auto", "dali", "pyav"]),
    default="auto",
    show_default=True,
    help="What reads the video; auto goes by the machine and the codec.",
)
@click.option(
    "--stride",
    type=float,
    metavar="S",
    callback=check_seconds,
    help="Seconds between windows; the model's own where not given.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, metavar="N", help="Frames at once."
)
@click.option("-o", "--output", metavar="FILE", help="Write the results there instead of to stdout.")
@click.option(
    "--output-format",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    help="By the suffix of --output where not given; else table.",
)
@click.option(
    "--timeline",
    metavar="FILE.png|FILE.html",
    callback=_timeline_file,
    help="Draw the probabilities over the movie, with thumbnails.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no warnings on stderr.")
@click.pass_context
def run(
    ctx: click.Context,
    videos: tuple[str, ...],
    bundle: str | None,
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
    video_decoder: Literal["auto", "dali", "pyav"],
    stride: float | None,
    batch_size: int,
    output: str | None,
    output_format: "FormName | None",
    timeline: str | None,
    quiet: bool,
) -> None:
    """Say what a model sees in each VIDEO.

    A video that fails is reported on stderr, the others are still done, and the exit code is 1.
    """
    if timeline is not None and len(videos) > 1:
        raise click.UsageError("--timeline draws one video; run vis4mer once for each")
    _refuse_to_overwrite(videos, output, timeline)
    show_log_messages(quiet)

    from vis4mer.cli.report import form_of_file, report_form
    from vis4mer.cli.results import Results
    from vis4mer.files import check_writable
    from vis4mer.runtime.loading import load
    from vis4mer.timeline.layout import save_timeline

    if output is None and sys.stdout is None:
        raise Vis4merError("output=stdout: is closed; name a file with --output")
    for path in (output, timeline):
        if path is not None:
            check_writable(path)
    classifier = load(bundle, device=device, precision=precision)
    form = report_form(
        output_format or form_of_file(output), len(videos) > 1, on_terminal=output is None and _is_terminal(sys.stdout)
    )
    results, failed = Results(form, output), False

    def interrupted() -> None:
        say("interrupted", f"{len(results)} of {len(videos)} videos done")
        if len(results) > 0:
            results.save()

    with at_interrupt(interrupted):
        for number, video in enumerate(videos, start=1):
            title = printable(Path(video).name) + (f" ({number} of {len(videos)})" if len(videos) > 1 else "")
            try:
                if "://" in video and not Path(video).exists():
                    raise VideoError(f"video={video!r}: URLs are not opened; download it first")
                with _progress(title, shown=not quiet and _is_terminal(sys.stderr)) as progress:
                    prediction = classifier(
                        video, stride=stride, batch_size=batch_size, video_decoder=video_decoder, progress=progress
                    )
                results.add(prediction)
                if bundle is None and len(results) == 1 and not quiet:
                    say("info", "the sample model answers, which knows only films like its own; --bundle names another")
                if timeline is not None:
                    save_timeline(prediction, timeline)
                if prediction.damage and not quiet:
                    say("warning", f"video={video!r}: {'; '.join(prediction.damage.notes)}")
            except Vis4merError as error:
                say("error", str(error))
                failed = True
        results.close()
    ctx.exit(1 if failed else 0)


def _refuse_to_overwrite(videos: Sequence[str], output: str | None, timeline: str | None) -> None:
    for option, path in (("--output", output), ("--timeline", timeline)):
        if path is not None and any(_same_file(path, video) for video in videos):
            raise click.UsageError(f"{option} {path!r} is one of the videos; name another file")
    if output is not None and timeline is not None and _same_file(output, timeline):
        raise click.UsageError(f"--output and --timeline are both {output!r}; name two files")


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - the paths are plain strings
    except OSError:  # where one of them is not there yet
        return os.path.realpath(one) == os.path.realpath(other)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


@contextmanager
def _progress(title: str, shown: bool) -> Iterator["Progress | None"]:
    """A bar on stderr with frames, frames a second and the time left."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: "Task") -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} frames/s")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, expected: bar.update(task, completed=done, total=max(done, expected))
