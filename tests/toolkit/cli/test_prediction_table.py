import math
import re
from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from tests.toolkit.predictions import made_up
from vis4mer.cli.prediction_table import prediction_table
from vis4mer.runtime.prediction import HeadPrediction, Prediction, WindowPrediction

LABELS = ("stranger", "somebody who was never seen before", "returns", "a", "b")


def prediction(
    curve: Sequence[float], labels: Sequence[str] = LABELS, frames: int = 300, notes: tuple[str, ...] = ()
) -> Prediction:
    """A prediction whose first label has the curve in its windows; the other labels share the rest."""
    rest = [(1 - p) / (len(labels) - 1) for p in curve]
    windows = [WindowPrediction(i, i + 60.0, (p, *[rest[i]] * (len(labels) - 1))) for i, p in enumerate(curve)]
    mean = [sum(column) / len(curve) for column in zip(*(window.probabilities for window in windows), strict=True)]
    values = [WindowPrediction(i, i + 60.0, value=math.sin(i)) for i in range(len(curve))]
    heads = {
        "visitor": HeadPrediction(labels[0], dict(zip(labels, mean, strict=True)), None, tuple(windows)),
        "the light": HeadPrediction(None, {}, 0.1234, tuple(values)),
    }
    return made_up(heads, video="a/movie.mp4", duration=360.0, frames=frames, notes=notes)


def shown(result: Prediction, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return re.sub(r"\x1b\[[0-9;]*m", "", prediction_table(result, on_terminal=True)).splitlines()


def row(lines: Sequence[str], start: str) -> str:
    return next(line for line in lines if start in line)


def curve(line: str) -> str:
    found = re.search(r"[▁▂▃▄▅▆▇█]+ *$", line)
    assert found is not None
    return found[0].rstrip()


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
@pytest.mark.parametrize("peak", [0, 171, 299])
def test_one_peak_shows_at_its_place_however_narrow(monkeypatch: pytest.MonkeyPatch, columns: int, peak: int) -> None:
    lines = shown(prediction([0.9 if i == peak else 0.0 for i in range(300)]), monkeypatch, columns)
    cells = curve(row(lines, "stranger"))
    assert max(map(cell_len, lines)) <= columns
    assert len(cells) >= 10
    assert [i for i, cell in enumerate(cells) if cell == "█"] == [peak * len(cells) // 300]
    assert set(cells.replace("█", "")) == {"▁"}


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_labels_keep_twelve_characters_and_percentages_stay(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    lines = shown(prediction([0.5] * 300), monkeypatch, columns)
    assert "somebody wh" in row(lines, "somebody")
    assert "50.0%" in row(lines, "stranger")
    assert "0.1234" in "".join(lines)


@pytest.mark.parametrize(
    ("n_windows", "heading"), [(24, "24 windows of 60 s"), (25, "maximum of 25 windows of 60 s"), (1, "")]
)
def test_the_heading_states_what_a_cell_of_the_curve_is(
    monkeypatch: pytest.MonkeyPatch, n_windows: int, heading: str
) -> None:
    lines = shown(prediction([0.5] * n_windows, LABELS[:1] + LABELS[2:]), monkeypatch, 120)
    head = row(lines, "head ")
    assert head.rstrip().endswith(heading if heading else "label")
    assert ("maximum" in head) is ("maximum" in heading)


def test_at_forty_columns_the_heading_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(prediction([0.5] * 300), monkeypatch, 40)
    title = [line[-10:].strip() for line in lines[3 : lines.index(row(lines, "stranger"))]]
    assert " ".join(title) == "maximum of 300 windows of 60 s"


def test_counts_agree_with_their_nouns_and_notes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(prediction([0.5], frames=1, notes=("every frame is black",)), monkeypatch, 80)
    assert "6:00 · 1 frame · pyav · cpu" in lines
    assert "note: every frame is black" in lines
