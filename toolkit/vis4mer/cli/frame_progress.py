"""The progress bar of `vis4mer run`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from vis4mer.video.reader import FrameProgress


class _RateColumn(TextColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f} frames/s")


@contextmanager
def frame_progress(title: str, shown: bool) -> Iterator["FrameProgress | None"]:
    """Shows a bar on stderr with frames, frames per second and the time left.

    Args:
        title: Title of the bar, free of control characters.
        shown: Whether to show the bar at all.

    Yields:
        The callable that reports progress to the bar; None if no bar is shown.
    """
    if not shown:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(""),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        # The number of frames expected is an estimate for a damaged movie, and a bar must not exceed its total.
        yield lambda done, expected: bar.update(task, completed=done, total=max(done, expected))
