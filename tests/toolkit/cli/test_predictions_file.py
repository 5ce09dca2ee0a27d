import csv
import dataclasses
import io
import json
import os
from pathlib import Path

import pytest

from tests.toolkit.training.evaluation.reports import classification
from vis4mer.cli.predictions_file import predictions_file


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_file_name_that_is_not_utf8_keeps_its_bytes(suffix: str) -> None:
    report = classification(("a", "b"), [1], [0])
    video = Path(os.fsdecode(b"caf\xe9.mp4"))
    report = dataclasses.replace(report, examples=(dataclasses.replace(report.examples[0], video=video),))
    text = predictions_file([report], suffix).decode("utf-8", "surrogateescape")
    (row,) = csv.DictReader(io.StringIO(text)) if suffix == ".csv" else json.loads(text)["predictions"]
    assert os.fsencode(row["video"]) == b"caf\xe9.mp4"
