"""The forms in which `vis4mer run` reports predictions."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vis4mer.cli.prediction_table import prediction_table
from vis4mer.runtime.prediction import Prediction

_CSV_COLUMNS = ("video", "duration", "head", "label", "probability", "value", "device", "video_decoder")

FormName = Literal["table", "json", "jsonl", "csv"]

_FORM_OF_SUFFIX: dict[str, FormName] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv"}


@dataclass(frozen=True)
class Form:
    """How predictions become text, piece by piece, so that each can be printed as soon as it is made.

    Attributes:
        item: Function that returns the text of one prediction.
        begin: Text before the first prediction.
        between: Text between two predictions.
        end: Text after the last prediction.
    """

    item: Callable[[Prediction], str]
    begin: str = ""
    between: str = ""
    end: str = ""


def report_form(name: FormName, several: bool, on_terminal: bool) -> Form:
    """Returns the form of the given name.

    Args:
        name: Name of the form.
        several: Whether there is more than one video. JSON is then an array, not an object.
        on_terminal: Whether the text goes to a terminal, whose width and colours a table may use.
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
            return Form(lambda prediction: prediction_table(prediction, on_terminal), between="\n")


def form_of_file(path: str | None) -> FormName:
    """Returns the form that a file's suffix names; ``table`` for any other suffix, and for None, which is stdout."""
    return _FORM_OF_SUFFIX.get(Path(path or "").suffix.lower(), "table")


def _csv_rows(prediction: Prediction) -> str:
    """Returns one row for each label of each classification head, and one for each regression head."""
    rows: list[tuple[object, ...]] = []
    for name, head in prediction.heads.items():
        results: list[tuple[object, ...]]
        if head.value is None:
            results = [(label, p, "") for label, p in head.probabilities.items()]
        else:
            results = [("", "", head.value)]
        before = (prediction.video, prediction.duration, name)
        rows += [(*before, *result, prediction.device, prediction.video_decoder) for result in results]
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
