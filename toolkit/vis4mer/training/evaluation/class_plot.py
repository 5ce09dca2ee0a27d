"""Recall and precision of every class of a classification."""

from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

from vis4mer.training.evaluation.classes import ClassFigures
from vis4mer.training.evaluation.plot_style import BLUE, INK, MUTED, ORANGE, shown_name, title
from vis4mer.training.evaluation.report import Report

_ROW = 0.26  # inches
_SURROUNDINGS = 2.2  # inches, for title, axis and legend
_MOST_CLASSES_IN_ORDER = 20


def draw_classes(report: Report) -> Figure:
    """Draws a bar for the recall of each class and a dot for its precision, with its number of movies.

    More than 20 classes are sorted by recall. The bars of several runs stand for the sum of their counts.
    """
    classes = _ordered(report.classes())
    rows = range(len(classes))
    names = [shown_name(figures.label) for figures in classes]
    width = 5.5 + 0.085 * max(map(len, names))
    figure = Figure(figsize=(width, _SURROUNDINGS + _ROW * len(rows)), layout="constrained")
    axes = figure.subplots()
    recalls = [100 * (figures.recall or 0) for figures in classes]
    recall = axes.barh(
        rows,
        recalls,
        height=0.6,
        color=BLUE,
        alpha=0.5,
        label="recall: share of the class's movies that were recognised",
    )
    intervals = _draw_intervals(axes, classes)
    precision = axes.plot(
        [100 * figures.precision for figures in classes if figures.precision is not None],
        [row for row, figures in zip(rows, classes, strict=True) if figures.precision is not None],
        linestyle="none",
        marker="D",
        markersize=5,
        color=ORANGE,
        markeredgecolor="white",
        clip_on=False,
        label="precision: share of the predictions of the class that are correct",
    )
    accuracy = 100 * report.metric.mean
    mean = axes.axvline(
        accuracy, color=MUTED, linestyle="--", linewidth=1, label=f"accuracy of all movies: {accuracy:.1f} %"
    )
    axes.set(xlabel="%", xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(rows, names)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    for row, figures in zip(rows, classes, strict=True):
        axes.annotate(
            _value(figures, len(report.runs)),
            (1, row),
            (8, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            color=INK if figures.movies else MUTED,
        )
    figure.suptitle(title(report, _order(classes)), x=0.01, ha="left", size=10)
    figure.legend(handles=[recall, *intervals, *precision, mean], loc="outside lower left")
    return figure


def _draw_intervals(axes: Axes, classes: list[ClassFigures]) -> list[Container]:
    """Draws the interval of each recall; returns what the legend describes, nothing if there are no intervals."""
    found = [
        (row, figures.recall, figures.recall_interval)
        for row, figures in enumerate(classes)
        if figures.recall is not None and figures.recall_interval is not None
    ]
    if not found:
        return []
    bars = axes.errorbar(
        [100 * recall for _, recall, _ in found],
        [row for row, _, _ in found],
        xerr=[
            [100 * (recall - interval.low) for _, recall, interval in found],
            [100 * (interval.high - recall) for _, recall, interval in found],
        ],
        fmt="none",
        ecolor=INK,
        elinewidth=1,
        capsize=2.5,
        label="95 % interval of the recall (Wilson)",
    )
    return [bars]


def _ordered(classes: list[ClassFigures]) -> list[ClassFigures]:
    if len(classes) <= _MOST_CLASSES_IN_ORDER:
        return classes
    # Classes without movies have no recall and come last.
    return sorted(classes, key=lambda figures: 2 if figures.recall is None else figures.recall)


def _order(classes: list[ClassFigures]) -> str:
    return "classes" if len(classes) <= _MOST_CLASSES_IN_ORDER else "classes, lowest recall first"


def _value(figures: ClassFigures, n_runs: int) -> str:
    """Returns the text beside a bar, such as ``75.0 % (3 of 4)``."""
    if figures.recall is None:
        return "no movies"
    runs = "" if n_runs == 1 else f", sum of {n_runs} runs"
    return f"{100 * figures.recall:.1f} % ({figures.n_correct} of {figures.movies * n_runs}{runs})"
