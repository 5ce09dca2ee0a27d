"""The table in which `vis4mer run` shows a prediction: every head's most probable labels and their curves over time."""

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vis4mer.runtime.prediction import HeadPrediction, Prediction, WindowPrediction
from vis4mer.text import clock, printable

_BAR_CELLS = 20
_CURVE_CELLS = 24
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
    console.print(_describe(prediction), highlight=False)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _describe(prediction: Prediction) -> RenderableType:
    parts = [clock(prediction.duration), f"{prediction.frames} frames", prediction.video_decoder, prediction.device]
    if prediction.precision != "fp32":
        parts.append(prediction.precision)
    facts = " · ".join(parts)
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("head")
    table.add_column("label")
    table.add_column("", justify="right")
    table.add_column("")
    table.add_column(_curve_title(prediction.windows))
    for number, (name, head) in enumerate(prediction.heads.items()):
        if number > 0:
            table.add_row()
        for row, cells in enumerate(_rows(head)):
            table.add_row(Text(name if row == 0 else ""), *cells)
    return Group(Text(printable(prediction.video), style="bold", overflow="fold"), Text(facts, style="dim"), "", table)


def _curve_title(windows: Sequence[WindowPrediction]) -> str:
    """Returns the heading of the curves, which states that a cell stands for a window, not for a moment."""
    if len(windows) < 2:
        return ""
    shown = f"{_CURVE_CELLS} of " if len(windows) > _CURVE_CELLS else ""
    return f"{shown}{len(windows)} windows of {windows[0].end - windows[0].start:.4g} s"


def _rows(head: HeadPrediction) -> list[tuple[Text, ...]]:
    return _label_rows(head) if head.value is None else [_value_row(head, head.value)]


def _value_row(head: HeadPrediction, mean: float) -> tuple[Text, ...]:
    values = [window.value or 0.0 for window in head.windows]
    low, high = min(values), max(values)
    scaled = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    spread = f"  {low:.4g} to {high:.4g}" if len(values) > 1 else ""
    return Text(""), Text(f"{mean:.4g}", style="bold"), Text(""), Text(_curve(scaled) + spread)


def _label_rows(head: HeadPrediction) -> list[tuple[Text, ...]]:
    labels = list(head.probabilities)
    ranked = sorted(labels, key=lambda label: -head.probabilities[label])
    rows = []
    for label in ranked[:_MOST_LABELS]:
        style = "bold" if label == head.label else "dim"
        p, index = head.probabilities[label], labels.index(label)
        curve = _curve([window.probabilities[index] for window in head.windows])
        cells = (printable(label), f"{p:.1%}", _bar(p), curve)
        rows.append(tuple(Text(cell, style=style) for cell in cells))
    if hidden := ranked[_MOST_LABELS:]:
        rest = sum(head.probabilities[label] for label in hidden)
        rows.append(tuple(Text(cell, style="dim") for cell in (f"{len(hidden)} more", f"{rest:.1%}", _bar(rest), "")))
    return rows


def _bar(fraction: float) -> str:
    """Returns a bar of up to 20 cells, drawn to an eighth of a cell."""
    whole, eighth = divmod(round(fraction * _BAR_CELLS * 8), 8)
    return ("█" * whole + _EIGHTHS[eighth]).rstrip()


def _curve(values: Sequence[float]) -> str:
    """Returns a curve of up to 24 cells through values in [0, 1]; empty for a single value."""
    if len(values) < 2:
        return ""
    cells = min(len(values), _CURVE_CELLS)
    sampled = [values[round(i * (len(values) - 1) / (cells - 1))] for i in range(cells)]
    return "".join(_LEVELS[min(7, int(value * 8))] for value in sampled)
