"""The forms in which `vis4mer run` reports predictions and failures."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, Literal

from vis4mer.cli.prediction_table import prediction_table
from vis4mer.runtime.prediction import HeadPrediction, Prediction

FormName = Literal["table", "json", "jsonl", "csv"]

FORM_OF_SUFFIX: Mapping[str, FormName] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".txt": "table"}

_CSV_COLUMNS = ("video", "duration", "head", "label", "probability", "value", "device", "video_decoder")
_CSV_WINDOW_COLUMNS = ("video", "duration", "head", "start", "end", "label", "probability", "value")
_CSV_LAST_COLUMNS = ("notes", "error")

_Row = Mapping[str, object]


@dataclass(frozen=True)
class Form:
    """How results become text, piece by piece, so that each can be printed as soon as it is made.

    Attributes:
        item: Function that returns the text of one prediction.
        failure: Function that returns the text for a movie that failed, given its path and the error's message.
        begin: Text before the first result.
        between: Text between two results that are not empty.
        end: Text after the last result.
    """

    item: Callable[[Prediction], str]
    failure: Callable[[str, str], str]
    begin: str = ""
    between: str = ""
    end: str = ""


def report_form(name: FormName, *, windows: bool = False, on_terminal: bool = False) -> Form:
    """Returns the form of the given name.

    Args:
        name: Name of the form.
        windows: Whether a CSV has rows for each window, instead of for each movie.
        on_terminal: Whether the text goes to a terminal, whose width and colours a table may use.
    """
    match name:
        case "json":
            return _json_form(lambda values: indent(json.dumps(values, indent=2), "  "), "[\n", ",\n", "\n]\n")
        case "jsonl":
            return _json_form(lambda values: json.dumps(values) + "\n")
        case "csv":
            return _csv_form(windows)
        case "table":
            # A failure is one line on stderr; it would only repeat itself between the tables.
            return Form(lambda prediction: prediction_table(prediction, on_terminal), lambda *_: "", between="\n")


def form_of_suffix(path: str) -> FormName | None:
    """Returns the form that a file's suffix names, or None."""
    return FORM_OF_SUFFIX.get(Path(path).suffix.lower())


def _json_form(dump: Callable[[dict[str, Any]], str], begin: str = "", between: str = "", end: str = "") -> Form:
    return Form(
        lambda prediction: dump(prediction.to_dict()),
        lambda video, error: dump({"video": video, "error": error}),
        begin,
        between,
        end,
    )


def _csv_form(windows: bool) -> Form:
    columns = (*(_CSV_WINDOW_COLUMNS if windows else _CSV_COLUMNS), *_CSV_LAST_COLUMNS)
    rows = _window_rows if windows else _movie_rows

    def text(rows: Iterator[_Row] | Sequence[_Row]) -> str:
        return _csv([[row.get(column, "") for column in columns] for row in rows])

    return Form(
        lambda prediction: text(rows(prediction)),
        lambda video, error: text([{"video": video, "error": error}]),
        begin=_csv([columns]),
    )


def _movie_rows(prediction: Prediction) -> Iterator[_Row]:
    """Yields a row for each label of each classification head, and one for each regression head."""
    common = _common(prediction) | {"device": prediction.device, "video_decoder": prediction.video_decoder}
    for name, head in prediction.heads.items():
        for result in _results(head, list(head.probabilities.values()), head.value):
            yield {**common, "head": name, **result}


def _window_rows(prediction: Prediction) -> Iterator[_Row]:
    """Yields a row for each label of each window of each classification head; one a window for a regression head."""
    common = _common(prediction)
    for name, head in prediction.heads.items():
        for window in head.windows:
            for result in _results(head, window.probabilities, window.value):
                yield {**common, "head": name, "start": window.start, "end": window.end, **result}


def _common(prediction: Prediction) -> dict[str, object]:
    return {"video": prediction.video, "duration": prediction.duration, "notes": "; ".join(prediction.notes)}


def _results(head: HeadPrediction, probabilities: Sequence[float], value: float | None) -> Iterator[_Row]:
    """Yields the columns of the result: each label's probability, or the value of a regression head."""
    if value is not None:
        yield {"value": value}
    else:
        for label, probability in zip(head.probabilities, probabilities, strict=True):
            yield {"label": label, "probability": probability}


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
