"""The prediction for every movie of a report, as rows of a table."""

from collections.abc import Iterator, Sequence

from vis4mer.training.data.listing import Example
from vis4mer.training.evaluation.metrics import Predictions
from vis4mer.training.evaluation.report import Report

Row = dict[str, str | float | bool | None]

COLUMNS = (
    "data",
    "checkpoint",
    "video",
    "start",
    "end",
    "windows",
    "truth",
    "prediction",
    "correct",
    "probability",
    "truth_probability",
    "error",
)
"""Names of the columns; None in a row where a column does not apply to the task."""


def prediction_rows(reports: Sequence[Report]) -> Iterator[Row]:
    """Yields one row for each movie of each run, in the order of the data set.

    ``start`` and ``end`` are those of a clip, in seconds. For classification, ``probability`` and
    ``truth_probability`` are the movie's probabilities of the predicted and of the true class. For regression,
    ``error`` is the prediction minus the true value.
    """
    for report in reports:
        for run in report.runs:
            for index, example in enumerate(report.examples):
                start, end = example.clip or (None, None)
                row: Row = dict.fromkeys(COLUMNS)
                row |= {"data": report.name, "checkpoint": run.checkpoint, "video": str(example.video)}
                row |= {"start": start, "end": end, "windows": int(run.predictions.windows[index])}
                yield row | _result(report, run.predictions, example, index)


def _result(report: Report, predictions: Predictions, example: Example, index: int) -> Row:
    scores = predictions.scores[index].tolist()
    if report.task == "regression":
        (value,) = scores
        return {"truth": example.target, "prediction": value, "error": value - example.target}
    truth, predicted = int(example.target), int(predictions.scores[index].argmax())
    return {
        "truth": report.labels[truth],
        "prediction": report.labels[predicted],
        "correct": predicted == truth,
        "probability": scores[predicted],
        "truth_probability": scores[truth],
    }
