"""Pictures of a classification's report: what is mistaken for what, and how well each class is told."""

from pathlib import Path

from matplotlib.figure import Figure

from vis4mer.errors import DataError
from vis4mer.files import atomic_file
from vis4mer.training.report import Report

_DPI = 150
_LONGEST = 24  # characters of a label
_LEGIBLE = 20  # classes whose counts still fit into the cells


def plot_report(report: Report, folder: Path) -> list[Path]:
    """Draws a report.

    Args:
        report: of a classification.
        folder: for the pictures; created if need be.

    Returns:
        The confusion matrix and the bars of the classes, both PNG.

    Raises:
        DataError: they cannot be written.
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
        raise DataError(f"plots={str(folder)!r}: cannot be written ({error.strerror}); give another folder") from None
    return list(paths.values())


def _confusion(report: Report) -> Figure:
    counts = report.confusion()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    names, size = _names(report), 3 + 0.35 * min(len(report.labels), 60)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the class's movies")
    axes.set(title=_title(report), xlabel="predicted", ylabel="is")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    if len(names) <= _LEGIBLE:
        for row in range(len(names)):
            for column in range(len(names)):
                dark = bool(shares[row, column] > 0.5)
                count = str(int(counts[row, column]))
                axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    return figure


def _classes(report: Report) -> Figure:
    """Bars of accuracy, with the number of movies of each class, counted once per run."""
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
    # A dollar sign would begin a formula.
    return [label[:_LONGEST].replace("$", r"\$") for label in report.labels]
