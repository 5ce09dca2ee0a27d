"""The confusion matrix of a classification."""

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from vis4mer.training.evaluation.plot_style import BLUE, GRID, INK, MUTED, SURFACE, shown_name, title
from vis4mer.training.evaluation.report import Report

_SHADES = LinearSegmentedColormap.from_list("shares", [SURFACE, BLUE])
_MOST_CLASSES_WITH_COUNTS = 20  # counts would be illegible in smaller cells
_SMALL_FONT = 6.5  # points
_LARGE_CELL, _SMALL_CELL = 0.42, 0.13  # inches; a small one holds a line of the small font
_LETTER = 0.085  # inches, of a name beside large cells
_NARROWEST = 6.0  # inches, for the title


def draw_confusion(report: Report) -> Figure:
    """Draws the share of each class's movies that were predicted to be each class."""
    confusion = report.confusion()
    totals = confusion.sum(1)
    shares = confusion / totals.clamp(min=1)[:, None]
    n_classes = len(report.labels)
    with_counts = n_classes <= _MOST_CLASSES_WITH_COUNTS
    names = [shown_name(label) for label in report.labels]
    side = n_classes * (_LARGE_CELL if with_counts else _SMALL_CELL) + _LETTER * max(map(len, names))
    figure = Figure(figsize=(max(side + 1.0, _NARROWEST), side + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap=_SHADES)
    axes.set(xlabel="predicted class", ylabel="true class")
    size = None if with_counts else _SMALL_FONT
    marked = [name if total else f"{name} (no movies)" for name, total in zip(names, totals.tolist(), strict=True)]
    axes.set_xticks(range(n_classes), names, rotation=90, fontsize=size)
    axes.set_yticks(range(n_classes), marked, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_color(GRID)
    axes.spines[:].set_visible(True)
    for row, total in enumerate(totals.tolist()):
        if not total:
            axes.axhspan(row - 0.5, row + 0.5, facecolor=GRID, hatch="////", edgecolor=SURFACE, linewidth=0)
            axes.get_yticklabels()[row].set_color(MUTED)
        elif with_counts:
            _write_counts(axes, row, confusion[row], shares[row])
    figure.suptitle(title(report, _figure(report, with_counts)), x=0.01, ha="left", size=10)
    return figure


def _write_counts(axes: Axes, row: int, counts: Tensor, shares: Tensor) -> None:
    for column, (count, share) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True)):
        colour = SURFACE if share > 0.5 else INK
        axes.text(column, row, str(count), ha="center", va="center", color=colour)


def _figure(report: Report, with_counts: bool) -> str:
    runs = "" if len(report.runs) == 1 else f", sum of {len(report.runs)} runs"
    counts = f"number of movies{runs}; " if with_counts else f"{runs.removeprefix(', ')}; " if runs else ""
    return f"confusion matrix\n{counts}shade: share of the row, white 0 %, blue 100 %"
