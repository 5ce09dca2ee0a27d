"""Plots of a report: the confusion matrix and the classes of a classification, the errors of a regression."""

import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from vis4mer.errors import DataError
from vis4mer.files import atomic_file
from vis4mer.training.evaluation.class_plot import draw_classes
from vis4mer.training.evaluation.confusion_plot import draw_confusion
from vis4mer.training.evaluation.plot_style import DPI, style
from vis4mer.training.evaluation.regression_plot import draw_regression
from vis4mer.training.evaluation.report import Report

_PLOTS: dict[str, dict[str, Callable[[Report], Figure]]] = {
    "classification": {"confusion": draw_confusion, "classes": draw_classes},
    "regression": {"regression": draw_regression},
}


def plot_report(report: Report, folder: Path) -> list[Path]:
    """Draws a report.

    Args:
        report: Report to draw.
        folder: Folder for the PNG files; created if it does not exist.

    Returns:
        Paths of the files: ``NAME-confusion.png`` and ``NAME-classes.png`` of a classification, ``NAME-regression.png``
        of a regression.

    Raises:
        DataError: A file cannot be written.
    """
    stem = report.name.removesuffix(".csv").replace("/", "-")
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in _PLOTS[report.task].items():
            path = folder / f"{stem}-{name}.png"
            _save(draw, report, path)
            paths.append(path)
    except OSError as error:
        rule = f"cannot be written ({error.strerror})"
        raise DataError.of("plots", folder, rule, "choose another folder") from None
    return paths


def _save(draw: Callable[[Report], Figure], report: Report, path: Path) -> None:
    with mpl.rc_context(style()), warnings.catch_warnings():
        # A letter that no installed font has becomes a box in the picture; a warning for each would be noise.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = draw(report)
        with atomic_file(path) as file:
            figure.savefig(file, format="png", dpi=DPI)
