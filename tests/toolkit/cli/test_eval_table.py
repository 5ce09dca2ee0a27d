import dataclasses

import pytest
from rich.cells import cell_len

from tests.toolkit.training.evaluation.reports import classification, regression
from vis4mer.cli.eval_table import eval_table

NAMES = ("returns home late", "stranger ü", "a class with quite a long name", "d")
REPORT = classification(NAMES, [0, 0, 0, 1, 2], [0, 1, 1, 1, 2])
PUBLISHED = dataclasses.replace(
    REPORT, name="lvu/scene", published={"Object Transformer": 0.569, "ViS4mer": 0.6744}, missing=("gone",)
)


@pytest.mark.parametrize("width", [160, 80, 60, 40])
@pytest.mark.parametrize(
    "reports",
    [[REPORT], [PUBLISHED], [PUBLISHED, regression([1.0, 2.0], [1.0, 3.0], [2.0, 2.0])]],
    ids=["movies", "published", "several"],
)
def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken(reports: list[object], width: int) -> None:
    text = eval_table(reports, width)
    assert max(map(cell_len, text.splitlines())) <= width
    wide = {word for line in eval_table(reports, 400).splitlines() for word in line.split()}
    broken = {word for line in text.splitlines() for word in line.split() if word not in wide and "..." not in word}
    # A narrow table names its columns without their unit.
    assert broken <= {"recall", "precision"}


@pytest.mark.parametrize("width", [160, 80, 60, 40])
def test_names_of_classes_keep_twelve_characters(width: int) -> None:
    lines = eval_table([REPORT], width).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("class"))
    for name, line in zip(NAMES, lines[start + 1 :], strict=False):
        assert line.startswith(name[:6])
        assert len(line.split("  ")[0]) >= min(len(name), 12)


def test_the_columns_explain_themselves() -> None:
    header, row, *rest = eval_table([REPORT], 160).splitlines()
    for heading in ("baseline", "this run", "95 % interval", "per window", "movies", "runs"):
        assert heading in header
    # 3 of 5; statsmodels 0.15.0: proportion_confint(3, 5, method="wilson")
    assert "60.00" in row
    assert "23.07 to 88.24" in row
    text = "\n".join(rest)
    assert "baseline: every movie predicted as 'returns home late', the most frequent class of the test movies" in text
    assert "per window: each of the 10 windows counted by itself." in text
    assert "Wilson's score interval" in text


def test_the_classes_have_their_figures() -> None:
    lines = eval_table([REPORT], 160).splitlines()
    row = next(line for line in lines if line.startswith("returns"))
    # statsmodels 0.15.0: proportion_confint(1, 3, method="wilson")
    assert row.split()[3:] == ["3", "33.3", "6.1", "to", "79.2", "100.0", "stranger", "ü"]
    empty = next(line for line in lines if line.startswith("d "))
    assert empty.split() == ["d", "0", "-", "-"]


def test_of_many_classes_those_with_the_lowest_recall_are_shown() -> None:
    labels = [f"c{i:02}" for i in range(30)]
    predicted = [0 if i in (11, 22) else i for i in range(30)]
    lines = eval_table([classification(labels, list(range(30)), predicted)], 80).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("class"))
    names = [line.split()[0] for line in lines[start + 1 : start + 21]]
    assert names[:2] == ["c11", "c22"]
    assert len(set(names)) == 20
    assert "the 20 of 30 classes with the lowest recall are shown" in " ".join(lines)


def test_classes_without_movies_come_after_those_with_the_lowest_recall() -> None:
    labels = [f"c{i:02}" for i in range(22)]
    lines = eval_table([classification(labels, list(range(4, 22)), list(range(4, 22)))], 80).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("class"))
    names = [line.split()[0] for line in lines[start + 1 : start + 21]]
    assert names == [*labels[4:], "c00", "c01"]


def test_runs_are_averaged_and_their_classes_summed() -> None:
    text = eval_table([classification(("a", "b"), [0, 1], [0, 1], [0, 0])], 160)
    header, row, *_ = text.splitlines()
    assert "mean of runs" in header
    assert "interval" not in text
    # The mean of 100 and 50, and their sample standard deviation, 50 / sqrt(2).
    assert "75.00 ± 35.36" in row
    assert "both of the sum of 2 runs" in text


def test_an_error_of_few_movies_has_no_interval() -> None:
    text = eval_table([regression([1.0, 2.0], [1.0, 3.0])], 80)
    assert "The MSE of fewer than ten movies, or of equal errors, has no interval." in text
    assert "baseline: every movie predicted as 1.5, the mean value of the test movies" in text
    assert "95 % interval" not in text


def test_a_name_cannot_move_the_cursor() -> None:
    report = classification(("a\x1b[2J", "b"), [0, 1], [1, 1], name="x\x1b[A.csv")
    assert "\x1b" not in eval_table([report], 80)
