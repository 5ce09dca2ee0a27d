from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tests.toolkit.training.evaluation.reports import classification, regression
from vis4mer.errors import Vis4merError
from vis4mer.training.evaluation import plot_style
from vis4mer.training.evaluation.class_plot import draw_classes
from vis4mer.training.evaluation.confusion_plot import draw_confusion
from vis4mer.training.evaluation.plots import plot_report
from vis4mer.training.evaluation.regression_plot import draw_regression
from vis4mer.training.evaluation.report import Report

LONG = "Überraschungsmenü ($5 oder $6) für größere Straßen"


def many(count: int) -> Report:
    """A report with three movies per class, of which the first is always recognised."""
    truth = [i for i in range(count) for _ in range(3)]
    predicted = [i if number == 0 else (i + number * i) % count for i in range(count) for number in range(3)]
    return classification([f"class {i:03}" for i in range(count)], truth, predicted)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text)]


def overlapping(labels: list[Text]) -> int:
    """Returns how many labels that follow each other touch."""
    boxes = [label.get_window_extent() for label in labels]
    return sum(bool(one.overlaps(other)) for one, other in pairwise(boxes))


@pytest.mark.parametrize("count", [2, 10, 60, 180])
def test_the_names_of_all_classes_are_readable(count: int) -> None:
    report = many(count)
    with mpl.rc_context(plot_style.style()):
        for figure in (draw_confusion(report), draw_classes(report)):
            shown = texts(figure)
            assert all(shown.count(label) >= 1 for label in report.labels)
            assert overlapping(figure.axes[0].get_yticklabels()) == 0
            assert min(label.get_fontsize() for label in figure.axes[0].get_yticklabels()) >= 6


def test_long_names_are_whole_and_no_formulas() -> None:
    report = classification([LONG, "b"], [0, 1], [0, 1])
    with mpl.rc_context(plot_style.style()):
        for figure in (draw_confusion(report), draw_classes(report)):
            assert LONG in texts(figure)
            (name, _) = figure.axes[0].get_yticklabels()
            assert figure.bbox.contains(*name.get_window_extent().min)
            assert figure.bbox.contains(*name.get_window_extent().max)
            assert figure.axes[0].get_window_extent().width > 50


def test_bars_have_values_and_empty_classes_are_marked() -> None:
    report = classification(["a", "b", "c"], [0, 0, 1], [0, 1, 1])
    with mpl.rc_context(plot_style.style()):
        shown = texts(draw_classes(report))
        assert {"50.0 % (1 of 2)", "100.0 % (1 of 1)", "no movies"} <= set(shown)
        assert any("95 % interval of the recall" in text for text in shown)
        assert "c (no movies)" in texts(draw_confusion(report))


def test_counts_over_runs_are_named_as_sums() -> None:
    report = classification(["a", "b"], [0, 1], [0, 1], [0, 0], [1, 1])
    with mpl.rc_context(plot_style.style()):
        shown = texts(draw_classes(report))
        assert "66.7 % (2 of 3, sum of 3 runs)" in shown
        assert not any("interval" in text for text in shown)
        assert any("number of movies, sum of 3 runs" in text for text in texts(draw_confusion(report)))


@pytest.mark.parametrize("count", [1, 5, 300])
def test_a_regression_shows_every_movie_and_its_error(count: int) -> None:
    truth = [float(i) for i in range(count)]
    predicted = [value + (0.5 if number % 2 else -0.25) for number, value in enumerate(truth)]
    with mpl.rc_context(plot_style.style()):
        figure = draw_regression(regression(truth, predicted))
        figure.draw_without_rendering()
        predictions, errors = figure.axes
        assert predictions.collections[0].get_offsets().tolist() == pytest.approx(
            [pytest.approx(point) for point in zip(truth, predicted, strict=True)]
        )
        assert [y for _, y in errors.collections[0].get_offsets().tolist()] == pytest.approx(
            [-0.25 + 0.75 * (number % 2) for number in range(count)]
        )
        for axes in (predictions, errors):
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            for x, y in axes.collections[0].get_offsets():
                assert left < x < right
                assert bottom < y < top


def test_the_files_of_each_task(tmp_path: Path) -> None:
    paths = plot_report(classification(["a", "b"], [0, 1], [0, 1], name="lvu/scene"), tmp_path / "new" / "plots")
    paths += plot_report(regression([1.0, 2.0], [1.0, 3.0]), tmp_path)
    assert [path.name for path in paths] == [
        "lvu-scene-confusion.png",
        "lvu-scene-classes.png",
        "values-regression.png",
    ]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"


def test_letters_without_a_font_cause_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    plot_report(classification(["\U0001f9ff", "ü"], [0, 1], [0, 1]), tmp_path)
    assert not recwarn.list


def test_a_file_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Vis4merError, match=r"plots='.*file': cannot be written") as error:
        plot_report(regression([1.0], [1.0]), tmp_path / "file")
    assert "\n" not in str(error.value)
