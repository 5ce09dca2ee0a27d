"""The text that `vis4mer eval` prints: the figures of every task, and those of the classes of a single task."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from vis4mer.cli.eval_notes import MOST_CLASSES, figure_notes
from vis4mer.text import printable, shorten

if TYPE_CHECKING:
    from vis4mer.training.evaluation.classes import ClassFigures
    from vis4mer.training.evaluation.report import Figure, Report

_GAP = 2  # characters between columns
_LEAST_NAME = 12  # characters
_WIDEST_NOTE = 100  # characters, for easy reading
_TEXT_COLUMNS = ("data", "metric", "class", "mistaken for")
_AFTER_PUBLISHED = (
    "baseline",
    "this run",
    "mean of runs",
    "95 % interval",
    "per window",
    "movies",
    "runs",
)
# From the widest to the narrowest.
_CLASS_LAYOUTS = (
    ("class", "movies", "recall, %", "95 % interval", "precision, %", "mistaken for"),
    ("class", "movies", "recall, %", "95 % interval", "precision, %"),
    ("class", "movies", "recall, %", "precision, %"),
    ("class", "movies", "recall", "precision"),
)


def eval_table(reports: "Sequence[Report]", width: int) -> str:
    """Returns tables and notes as text.

    Args:
        reports: Results to show.
        width: Width of the terminal, in characters.
    """
    parts = [_figures(reports, width)]
    if len(reports) == 1 and reports[0].labels:
        parts += [Text(), _classes(reports[0], width)]
    parts += [Text(), *(Constrain(Text(printable(note)), _WIDEST_NOTE) for note in figure_notes(reports))]
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(Group(*parts), highlight=False)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _figures(reports: "Sequence[Report]", width: int) -> RenderableType:
    """Returns one row per report; where the rows are too wide, one block of lines per report."""
    rows = [_report_cells(report) for report in reports]
    methods = dict.fromkeys(printable(method) for report in reports for method in report.published)
    order = ("data", "metric", *methods, *_AFTER_PUBLISHED)
    headings = [heading for heading in order if any(heading in row for row in rows)]
    widths = [
        max(cell_len(text) for text in (heading, *(row.get(heading, "") for row in rows))) for heading in headings
    ]
    if sum(widths) + _GAP * (len(widths) - 1) <= width:
        return _table(headings, rows)
    blocks: list[RenderableType] = []
    for row in rows:
        block = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        block.add_column(no_wrap=True)
        block.add_column(overflow="fold")
        for heading in headings:
            if heading in row:
                block.add_row(Text(heading), Text(row[heading]))
        blocks += [Text(), block] if blocks else [block]
    return Group(*blocks)


def _report_cells(report: "Report") -> dict[str, str]:
    """Returns the figures of a report by the headings of their columns."""
    percent = report.task == "classification"
    several = len(report.runs) > 1
    cells = {"data": printable(report.name), "metric": "accuracy, %" if percent else "MSE"}
    cells |= {printable(method): _number(value, percent) for method, value in report.published.items()}
    cells["baseline"] = _number(report.baseline.metric, percent)
    mark = "*" if report.as_published else ""
    cells["mean of runs" if several else "this run"] = _figure(report.metric, percent) + mark
    if report.interval is not None:
        low, high = (_number(limit, percent) for limit in report.interval)
        cells["95 % interval"] = f"{low} to {high}"
    cells["per window"] = _figure(report.window_metric, percent)
    cells["movies"] = f"{report.movies} of {report.movies + len(report.missing)}"
    cells["runs"] = str(len(report.runs))
    return cells


def _classes(report: "Report", width: int) -> Table:
    """Returns one row per class, for many classes those with the lowest recall; a narrow table has fewer columns."""
    classes = report.classes()
    if len(classes) > MOST_CLASSES:
        # Classes without movies have no recall and come last.
        classes = sorted(classes, key=lambda figures: (figures.recall is None, figures.recall))[:MOST_CLASSES]
    headings, name_width = _class_columns(width, has_intervals=len(report.runs) == 1)
    rows = [{heading: _class_cell(figures, heading, name_width) for heading in headings} for figures in classes]
    return _table(headings, rows)


def _class_columns(width: int, has_intervals: bool) -> tuple[list[str], int]:
    """Returns the headings of the widest layout that fits, and the width that it leaves for a name."""
    headings, name_width = list[str](), 0
    for layout in _CLASS_LAYOUTS:
        headings = [heading for heading in layout if has_intervals or heading != "95 % interval"]
        n_names = sum(heading in _TEXT_COLUMNS for heading in headings)
        figures = sum(len(heading) for heading in headings if heading not in _TEXT_COLUMNS)
        name_width = (width - figures - _GAP * (len(headings) - 1)) // n_names
        if name_width >= _LEAST_NAME:
            break
    return headings, max(name_width, _LEAST_NAME)


def _class_cell(figures: "ClassFigures", heading: str, name_width: int) -> str:
    match heading.removesuffix(", %"):
        case "class":
            return _name(figures.label, name_width)
        case "movies":
            return str(figures.movies)
        case "recall":
            return _share(figures.recall)
        case "precision":
            return _share(figures.precision)
        case "95 % interval":
            interval = figures.recall_interval
            return "" if interval is None else f"{_share(interval.low)} to {_share(interval.high)}"
        case _:
            return _name(figures.mistaken_for or "", name_width)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _table(headings: Sequence[str], rows: Sequence[dict[str, str]]) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in _TEXT_COLUMNS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row.get(heading, "")) for heading in headings))
    return table


def _name(name: str, width: int) -> str:
    return shorten(printable(name), lambda shown: cell_len(shown) <= width)


def _figure(figure: "Figure", percent: bool) -> str:
    spread = "" if figure.spread is None else f" ± {_number(figure.spread, percent)}"
    return _number(figure.mean, percent) + spread


def _number(value: float, percent: bool) -> str:
    """Formats a share in percent, or an error with four significant digits."""
    return f"{100 * value:.2f}" if percent else f"{value:.4g}"
