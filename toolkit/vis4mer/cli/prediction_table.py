"""The table in which `vis4mer run` shows a prediction: every head's most probable labels and their curves over time."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vis4mer.runtime.prediction import HeadPrediction, Prediction
from vis4mer.text import clock, count, printable

_BAR_CELLS = 20
_LEAST_BAR_CELLS = 5  # a shorter bar shows nothing
_CURVE_CELLS = 24
_LEAST_CURVE_CELLS = 9  # as wide as the heading
_LEAST_LABEL_CELLS = 12
_LEAST_HEAD_CELLS = 4
_GAP = 2  # between columns
_MOST_LABELS = 5
_PLAIN_WIDTH = 120  # characters
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"


def prediction_table(prediction: Prediction, on_terminal: bool) -> str:
    """Formats a prediction for people.

    Args:
        prediction: The prediction.
        on_terminal: Whether to use the width and colours of the terminal.
    """
    text = io.StringIO()
    if on_terminal:
        console = Console(file=text, force_terminal=True)
    else:
        console = Console(file=text, width=_PLAIN_WIDTH, color_system=None)
    console.print(_describe(prediction, console.width), highlight=False)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


@dataclass(frozen=True)
class _Row:
    """A row of the table.

    Attributes:
        head: Name of the head; empty after its first row.
        label: Name of a label, or another description of the figure.
        figure: Probability or value.
        bar: Probability to draw as a bar; None for a value.
        curve: Heights in [0, 1] over time, one for each window.
        style: Style of everything but the head's name.
    """

    head: str
    label: str
    figure: str
    bar: float | None
    curve: Sequence[float]
    style: str


def _describe(prediction: Prediction, width: int) -> RenderableType:
    rows = [row for name, head in prediction.heads.items() for row in _rows(printable(name), head)]
    widths = _fit(rows, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    for name in ("head", "label", "figure", "bar", "curve"):
        if widths[name]:
            heading = {"curve": "over time", "figure": "", "bar": ""}.get(name, name)
            justify: Literal["left", "right"] = "right" if name == "figure" else "left"
            table.add_column(heading, width=widths[name], no_wrap=True, overflow="ellipsis", justify=justify)
    for number, row in enumerate(rows):
        if row.head and number > 0:
            table.add_row()
        cells = [Text(row.label, style=row.style), Text(row.figure, style=row.style)]
        if widths["bar"]:
            cells.append(Text("" if row.bar is None else _bar(row.bar, widths["bar"]), style=row.style))
        if widths["curve"]:
            cells.append(Text(_curve(row.curve, widths["curve"]), style=row.style))
        table.add_row(Text(row.head), *cells)
    title = Text(printable(prediction.video), style="bold", overflow="fold")
    notes = [Text(f"note: {note}", style="yellow") for note in prediction.notes]
    return Group(title, Text(_facts(prediction, widths["curve"]), style="dim"), *notes, "", table)


def _facts(prediction: Prediction, curve_cells: int) -> str:
    """Returns the lines under the movie's name: its length, what read and classified it, and what the curves show."""
    parts = [clock(prediction.duration), count(prediction.frames, "frame"), prediction.video_decoder, prediction.device]
    if prediction.precision != "fp32":
        parts.append(prediction.precision)
    lines = [" · ".join(parts)]
    if curve_cells:
        windows = prediction.windows
        length = f"{windows[0].end - windows[0].start:.4g} s"
        maximum = ", the maximum in each cell" if len(windows) > curve_cells else ""
        lines.append(f"over time: {len(windows)} windows of {length}{maximum}")
    return "\n".join(lines)


def _fit(rows: Sequence[_Row], width: int) -> dict[str, int]:
    """Returns the columns' widths, in characters, that fit into `width` together; 0 for a column that is left out.

    Where room is short, the bar shrinks first, because the figure beside it states the same; then the curve; then the
    names, which are cut last of all.
    """
    windows = max(len(row.curve) for row in rows)
    curve = max(_LEAST_CURVE_CELLS, min(windows, _CURVE_CELLS)) if windows > 1 else 0
    widths = {
        "head": max(_LEAST_HEAD_CELLS, *(cell_len(row.head) for row in rows)),
        "label": max(len("label"), *(cell_len(row.label) for row in rows)),
        "figure": max(cell_len(row.figure) for row in rows),
        "bar": _BAR_CELLS if any(row.bar is not None for row in rows) else 0,
        "curve": curve,
    }
    least = {
        "bar": 0,
        "curve": min(curve, _LEAST_CURVE_CELLS),
        "label": min(widths["label"], _LEAST_LABEL_CELLS),
        "head": _LEAST_HEAD_CELLS,
    }
    for name, cells in least.items():
        shown = [column for column in widths.values() if column]
        excess = sum(shown) + _GAP * (len(shown) - 1) - width
        if excess > 0:
            widths[name] = max(cells, widths[name] - excess)
        if name == "bar" and widths[name] < _LEAST_BAR_CELLS:
            widths[name] = 0
    return widths


def _rows(name: str, head: HeadPrediction) -> list[_Row]:
    return _label_rows(name, head) if head.value is None else [_value_row(name, head, head.value)]


def _value_row(name: str, head: HeadPrediction, mean: float) -> _Row:
    values = [window.value or 0.0 for window in head.windows]
    low, high = min(values), max(values)
    scaled = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    spread = f"{low:.4g} to {high:.4g}" if high > low else ""
    return _Row(name, spread, f"{mean:.4g}", None, scaled, "bold")


def _label_rows(name: str, head: HeadPrediction) -> list[_Row]:
    labels = list(head.probabilities)
    ranked = sorted(labels, key=lambda label: -head.probabilities[label])
    rows: list[_Row] = []
    for label in ranked[:_MOST_LABELS]:
        p, index = head.probabilities[label], labels.index(label)
        curve = [window.probabilities[index] for window in head.windows]
        style = "bold" if label == head.label else "dim"
        rows.append(_Row("" if rows else name, printable(label), f"{p:.1%}", p, curve, style))
    if hidden := ranked[_MOST_LABELS:]:
        rest = sum(head.probabilities[label] for label in hidden)
        rows.append(_Row("", f"{len(hidden)} more", f"{rest:.1%}", rest, (), "dim"))
    return rows


def _bar(fraction: float, cells: int) -> str:
    """Returns a bar of up to `cells` cells, drawn to an eighth of a cell."""
    whole, eighth = divmod(round(fraction * cells * 8), 8)
    return ("█" * whole + _EIGHTHS[eighth]).rstrip()


def _curve(values: Sequence[float], most_cells: int) -> str:
    """Returns a curve of up to `most_cells` cells through values in [0, 1]; empty for a single value.

    A cell stands for one value, or for the maximum of several consecutive ones, so that no peak is lost.
    """
    if len(values) < 2:
        return ""
    cells = min(len(values), most_cells)
    edges = [cell * len(values) // cells for cell in range(cells + 1)]
    return "".join(_LEVELS[min(7, int(max(values[start:end]) * 8))] for start, end in pairwise(edges))
