"""The file of `vis4mer eval --predictions`: the truth and the prediction of every movie."""

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vis4mer.training.evaluation.report import Report


def predictions_file(reports: "Sequence[Report]", suffix: str) -> bytes:
    """Returns the content of the file, in UTF-8; a file name that is not UTF-8 keeps its bytes.

    Args:
        reports: Reports to take the predictions from.
        suffix: Suffix that names the form: ``.csv`` or ``.json``.
    """
    from vis4mer.training.evaluation.predictions_table import COLUMNS, prediction_rows

    rows = prediction_rows(reports)
    if suffix == ".json":
        return (json.dumps({"predictions": list(rows)}, indent=2) + "\n").encode()
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")
