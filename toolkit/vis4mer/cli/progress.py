"""Progress of long work on stderr: bars on a terminal, else one line a minute."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from vis4mer.cli.console import is_terminal, say
from vis4mer.text import clock, printable
from vis4mer.training.progress import Progress

_LINE_SECONDS = 60.0
_SPEED_SECONDS = 300.0  # over which the speed, and so the time left, is averaged
_NARROW = 70  # characters; narrower terminals show no rate


class ProgressDisplay:
    """Tasks under way.

    On a terminal, each has a bar, which vanishes once the task is finished. Elsewhere, such as in a log, a line is
    written every minute. Figures are kept between two `shown` blocks, so that other text can be printed meanwhile.

    Args:
        hidden: Whether to show nothing at all.
    """

    def __init__(self, *, hidden: bool = False) -> None:
        console = Console(stderr=True)
        self._hidden = hidden
        self._on_terminal = not hidden and is_terminal(sys.stderr)
        self._bars = bars.Progress(
            *_columns(console.width),
            console=console,
            transient=True,
            disable=not self._on_terminal,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self._ids: dict[str, bars.TaskID] = {}
        # Kept between blocks, so that a line also appears every minute if each block is shorter.
        self._next_line = time.monotonic() + _LINE_SECONDS

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the tasks until the block ends."""
        ended = threading.Event()
        lines = threading.Thread(target=self._write_lines, args=(ended,), name="vis4mer-progress", daemon=True)
        if not self._hidden and not self._on_terminal:
            lines.start()
        try:
            with self._bars:
                yield
        finally:
            ended.set()
            if lines.ident is not None:
                lines.join()

    def update(
        self, task: str, done: float, total: float | None, *, count: str | None = None, unit: str | None = None
    ) -> None:
        """Records the progress of a task; a finished task is no longer shown.

        Args:
            task: Name of the task, which identifies it.
            done: Amount that is done.
            total: Total amount, which may change; None if it is unknown.
            count: Text in place of "DONE/TOTAL", for amounts in a unit that means nothing to the user.
            unit: Plural of the unit, to show how many of them are done per second.
        """
        if task not in self._ids:
            self._ids[task] = self._bars.add_task(printable(task), total=None)
        finished = total is not None and done >= total
        # Speed is measured from the first update on, so what a resumed run had done before does not count.
        self._bars.update(self._ids[task], completed=done, total=total, visible=not finished, count=count, unit=unit)

    def remove(self, task: str) -> None:
        """Forgets a task, if there is one of that name."""
        if task in self._ids:
            self._bars.remove_task(self._ids.pop(task))

    def _write_lines(self, ended: threading.Event) -> None:
        # A thread writes the lines, so they also come from a step that takes minutes by itself.
        while not ended.wait(max(0.0, self._next_line - time.monotonic())):
            self._next_line = time.monotonic() + _LINE_SECONDS
            if tasks := [_line(task) for task in self._bars.tasks if task.visible]:
                say("progress", "; ".join(tasks))


@contextmanager
def progress_bars(*, hidden: bool = False) -> Iterator[Progress]:
    """Shows the progress of the tasks that a long call of the library reports, until the block ends.

    Args:
        hidden: Whether to show nothing.

    Yields:
        The callback to pass to the library.
    """
    display = ProgressDisplay(hidden=hidden)
    with display.shown():
        yield display.update


def _columns(width: int) -> tuple[bars.ProgressColumn, ...]:
    """Returns the columns of a bar for a terminal of `width` characters."""
    columns = (_TitleColumn(), bars.BarColumn(bar_width=max(8, min(40, width // 4))), _CountColumn())
    return (*columns, *(() if width < _NARROW else (_RateColumn(),)), _TimeLeftColumn())


class _TitleColumn(bars.ProgressColumn):
    def render(self, task: bars.Task) -> Text:
        # The text does not wrap, but its column may: a table narrows only such columns, so a long title is shortened
        # while the other columns keep their widths.
        return Text(task.description, no_wrap=True, overflow="ellipsis")

    def get_table_column(self) -> Column:
        return Column(no_wrap=False, min_width=4)


class _FigureColumn(bars.ProgressColumn):
    def get_table_column(self) -> Column:
        return Column(no_wrap=True, justify="right")


class _CountColumn(_FigureColumn):
    def render(self, task: bars.Task) -> Text:
        return Text(_count(task, "/"), style="progress.download")


class _RateColumn(_FigureColumn):
    def render(self, task: bars.Task) -> Text:
        return Text(_rate(task), style="progress.data.speed")


class _TimeLeftColumn(_FigureColumn):
    max_refresh = 0.5  # seconds

    def render(self, task: bars.Task) -> Text:
        return Text(_time_left(task), style="progress.remaining")


def _line(task: bars.Task) -> str:
    """Returns a task's progress as text: ``NAME: 812 of 7200, 31.2 frames/s, 3:25 left``."""
    figures = (_count(task, " of "), _rate(task), _time_left(task))
    return f"{task.description}: {', '.join(figure for figure in figures if figure)}"


def _count(task: bars.Task, separator: str) -> str:
    if count := task.fields.get("count"):
        return str(count)
    return f"{int(task.completed)}{separator}{'?' if task.total is None else int(task.total)}"


def _rate(task: bars.Task) -> str:
    unit = task.fields.get("unit")
    return f"{task.speed:.1f} {unit}/s" if unit and task.speed else ""


def _time_left(task: bars.Task) -> str:
    return "" if task.time_remaining is None else f"{clock(task.time_remaining)} left"
