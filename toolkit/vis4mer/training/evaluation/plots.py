"""Plots of a classification report: the confusion matrix and the accuracy of each class."""

from pathlib import Path

from matplotlib.figure import Figure

from vis4mer.errors import DataError
from vis4mer.files import atomic_file
from vis4mer.training.evaluation.report import Report

_DPI = 150
_MAX_LABEL_LENGTH = 24  # characters
_MAX_CLASSES_WITH_COUNTS = 20  # counts would be illegible in larger matrices


def plot_report(report: Report, folder: Path) -> list[Path]:
    """Draws a report.

    Args:
        report: Report of a classification.
        folder: Folder for the PNG files; created if it does not exist.

    Returns:
        Paths of the confusion matrix and of the bars of the classes.

    Raises:
        DataError: The files cannot be written.
    """
    stem = report.name.removesuffix(".csv").replace("/", "-")
    drawn = {"confusion": _confusion(report), "classes": _classes(report)}
    paths = {name: folder / f"{stem}-{name}.png" for name in drawn}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            with atomic_file(paths[name]) as file:
                figure.savefig(file, format="png", dpi=_DPI)
    except OSError as error:
        rule = f"cannot be written ({error.strerror})"
        raise DataError.of("plots", folder, rule, "choose another folder") from None
    return list(paths.values())


def _confusion(report: Report) -> Figure:
    counts = report.confusion()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    names = _names(report)
    size = 3 + 0.35 * min(len(names), 60)  # inches
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the class's movies")
    axes.set(title=_title(report), xlabel="predicted", ylabel="actual")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    if len(names) <= _MAX_CLASSES_WITH_COUNTS:
        for row in range(len(names)):
            for column in range(len(names)):
                dark = bool(shares[row, column] > 0.5)
                count = str(int(counts[row, column]))
                axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    return figure


def _classes(report: Report) -> Figure:
    """Draws the accuracy of each class over all runs, and writes the class's number of movies beside its name."""
    counts = report.confusion()
    movies = counts.sum(1)
    accuracy = 100 * counts.diagonal() / movies.clamp(min=1)
    names = [f"{name} ({int(n) // len(report.runs)})" for name, n in zip(_names(report), movies, strict=True)]
    figure = Figure(figsize=(7, 1.5 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), accuracy.numpy())
    axes.axvline(100 * report.metric.mean, color="black", linestyle="--", linewidth=1, label="of all movies")
    axes.set(title=_title(report), xlabel="accuracy, %", xlim=(0, 100))
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.legend()
    return figure


def _title(report: Report) -> str:
    return report.name if len(report.runs) == 1 else f"{report.name}, {len(report.runs)} runs"


def _names(report: Report) -> list[str]:
    # Matplotlib reads text between dollar signs as a formula.
    return [label[:_MAX_LABEL_LENGTH].replace("$", r"\$") for label in report.labels]
