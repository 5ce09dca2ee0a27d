"""Progress bars on stderr for the long calls of the library."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console

from vis4mer.training.progress import Progress

_COLUMNS = (
    bars.TextColumn("{task.description}"),
    bars.BarColumn(),
    bars.MofNCompleteColumn(),
    bars.TimeRemainingColumn(),
)


@contextmanager
def progress_bars(*, hidden: bool = False) -> Iterator[Progress]:
    """Shows one bar per task until the block ends, if stderr is a terminal.

    Args:
        hidden: Whether to show nothing on a terminal either.

    Yields:
        The callback to pass to the library.
    """
    disabled = hidden or not sys.stderr.isatty()
    with bars.Progress(*_COLUMNS, console=Console(stderr=True), disable=disabled) as display:
        ids: dict[str, bars.TaskID] = {}

        def update(task: str, done: float, total: float) -> None:
            if task not in ids:
                ids[task] = display.add_task(task, total=total)
            display.update(ids[task], completed=done, total=total)

        yield update
