"""The forms in which `vis4mer run` reports predictions."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vis4mer.runtime.prediction import HeadPrediction, Prediction, WindowPrediction
from vis4mer.text import clock, printable

_BAR_CELLS = 20
_CURVE_CELLS = 24
_MOST_LABELS = 5
_PLAIN_WIDTH = 120
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"
_CSV_COLUMNS = ("video", "duration", "head", "label", "probability", "value", "device", "video_decoder")

FormName = Literal["table", "json", "jsonl", "csv"]

_FORM_OF_SUFFIX: dict[str, FormName] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv"}


@dataclass(frozen=True)
class Form:
    """How predictions become text, piece by piece, so that each is out as soon as it is known.

    Attributes:
        item: text of one prediction.
        begin: text before the first one.
        between: text between two.
        end: text after the last one.
    """

    item: Callable[[Prediction], str]
    begin: str = ""
    between: str = ""
    end: str = ""


def report_form(name: FormName, several: bool, on_terminal: bool) -> Form:
    """The form of the given name.

    Args:
        name: table, json, jsonl or csv.
        several: whether more than one video was given, which decides between a JSON object and an array.
        on_terminal: whether the text goes to stdout's terminal, whose width and colours a table may use.
    """
    match name:
        case "json" if several:
            return Form(lambda prediction: json.dumps(prediction.to_dict(), indent=2), "[\n", ",\n", "\n]\n")
        case "json":
            return Form(lambda prediction: json.dumps(prediction.to_dict(), indent=2) + "\n")
        case "jsonl":
            return Form(lambda prediction: json.dumps(prediction.to_dict()) + "\n")
        case "csv":
            return Form(_csv_rows, begin=_csv([_CSV_COLUMNS]))
        case "table":
            return Form(lambda prediction: _table(prediction, on_terminal), between="\n")


def form_of_file(path: str | None) -> FormName:
    """The form that a file's suffix names; table for any other, and for stdout, which is None."""
    return _FORM_OF_SUFFIX.get(Path(path or "").suffix.lower(), "table")


def _csv_rows(prediction: Prediction) -> str:
    """One row for each label of each classification head, one for each regression head."""
    rows: list[tuple[object, ...]] = []
    for name, head in prediction.heads.items():
        results: list[tuple[object, ...]] = [(label, p, "") for label, p in head.probabilities.items()] or [
            ("", "", head.value)
        ]
        before = (prediction.video, prediction.duration, name)
        rows += [(*before, *result, prediction.device, prediction.video_decoder) for result in results]
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _table(prediction: Prediction, on_terminal: bool) -> str:
    """For people: every head's most probable labels and their course over the movie."""
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
        for cells in _rows(head):
            table.add_row(Text(name), *cells)
            name = ""
    return Group(Text(printable(prediction.video), style="bold", overflow="fold"), Text(facts, style="dim"), "", table)


def _curve_title(windows: Sequence[WindowPrediction]) -> str:
    """What a curve's cells are: windows, so that none of them stands for a moment of the movie."""
    if len(windows) < 2:
        return ""
    shown = f"{_CURVE_CELLS} of " if len(windows) > _CURVE_CELLS else ""
    return f"{shown}{len(windows)} windows of {windows[0].end - windows[0].start:.4g} s"


def _rows(head: HeadPrediction) -> list[tuple[Text, ...]]:
    if head.value is not None:
        values = [window.value or 0.0 for window in head.windows]
        low, high = min(values), max(values)
        scaled = [(value - low) / (high - low) if high > low else 0.5 for value in values]
        spread = f"  {low:.4g} to {high:.4g}" if len(values) > 1 else ""
        return [(Text(""), Text(f"{head.value:.4g}", style="bold"), Text(""), Text(_curve(scaled) + spread))]
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
    """A bar of up to 20 cells, drawn to an eighth of a cell."""
    whole, eighth = divmod(round(fraction * _BAR_CELLS * 8), 8)
    return ("█" * whole + _EIGHTHS[eighth]).rstrip()


def _curve(values: Sequence[float]) -> str:
    """A curve of up to 24 cells through values in [0, 1]; empty for a single one, which is no course."""
    if len(values) < 2:
        return ""
    cells = min(len(values), _CURVE_CELLS)
    sampled = [values[round(i * (len(values) - 1) / (cells - 1))] for i in range(cells)]
    return "".join(_LEVELS[min(7, int(value * 8))] for value in sampled)
