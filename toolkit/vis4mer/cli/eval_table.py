"""The table that `vis4mer eval` prints: one task per row, published results beside those of the checkpoints."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vis4mer.text import printable

if TYPE_CHECKING:
    from vis4mer.training.evaluation.report import Figure, Report

_WIDTH = 160  # characters, so that the published methods and the figures fit on one line


def eval_table(reports: "Sequence[Report]") -> str:
    """Returns the table and its notes as text."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    methods = list(dict.fromkeys(method for report in reports for method in report.published))
    for name in ("data", "metric", *methods, "here", "here, windows", "movies", "runs"):
        table.add_column(name, justify="left" if name in ("data", "metric") else "right", no_wrap=True)
    for report in reports:
        classifies = report.task == "classification"
        n_listed = report.movies + len(report.missing)
        cells = (
            printable(report.name),
            "accuracy, %" if classifies else "mse",
            *(
                _number(report.published[method], classifies) if method in report.published else ""
                for method in methods
            ),
            _figure(report.metric, classifies) + ("*" if report.as_published else ""),
            _figure(report.window_metric, classifies),
            f"{report.movies} of {n_listed}",
            str(len(report.runs)),
        )
        table.add_row(*map(Text, cells))
    text = io.StringIO()
    console = Console(file=text, width=_WIDTH, color_system=None)
    console.print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "".join(f"{line}\n" for line in [*lines, *_notes(reports)])


def _notes(reports: "Sequence[Report]") -> list[str]:
    notes = []
    if any(len(report.runs) > 1 for report in reports):
        notes.append("± is the standard deviation over runs.")
    if any(report.as_published for report in reports):
        notes.append("* The epoch was chosen on the test split, as in the published code, so the figure is optimistic.")
    for report in reports:
        if report.missing:
            notes.append(f"{report.name}: {len(report.missing)} missing: {' '.join(map(printable, report.missing))}")
    return ["", *notes] if notes else []


def _figure(figure: "Figure", percent: bool) -> str:
    spread = "" if figure.spread is None else f" ± {_number(figure.spread, percent)}"
    return _number(figure.mean, percent) + spread


def _number(value: float, percent: bool) -> str:
    return f"{100 * value if percent else value:.2f}"
