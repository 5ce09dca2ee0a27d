"""The notes under the tables of `vis4mer eval`: what the columns mean and how their figures were obtained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vis4mer.training.names import shortened

if TYPE_CHECKING:
    from vis4mer.training.evaluation.report import Report

MOST_CLASSES = 20


def figure_notes(reports: "Sequence[Report]") -> list[str]:
    """Returns the notes for reports, a paragraph each."""
    notes = ["MSE: mean squared error."] if any(report.task == "regression" for report in reports) else []
    notes += [_baseline(reports), _windows(reports), *_intervals(reports)]
    if any(len(report.runs) > 1 for report in reports):
        notes.append("mean of runs: ± is the standard deviation over runs.")
    if any(report.labels for report in reports):
        notes.append(_classes(reports))
    if any(report.as_published for report in reports):
        notes.append("* The epoch was chosen on the test split, as in the published code, so the figure is optimistic.")
    for report in reports:
        if report.missing:
            notes.append(f"{report.name}: {len(report.missing)} missing: {shortened(report.missing)}")
    return notes


def _baseline(reports: "Sequence[Report]") -> str:
    if len(reports) > 1:
        return (
            "baseline: every movie predicted as the most frequent class, or as the mean value, of the training movies "
            "(of the test movies where no training movies are listed)."
        )
    baseline = reports[0].baseline
    if isinstance(baseline.prediction, str):
        prediction, role = repr(baseline.prediction), "the most frequent class"
    else:
        prediction, role = f"{baseline.prediction:.4g}", "the mean value"
    source = "training movies" if baseline.split == "train" else "test movies, as no training movies are listed"
    return f"baseline: every movie predicted as {prediction}, {role} of the {source}."


def _windows(reports: "Sequence[Report]") -> str:
    number = f"the {reports[0].windows} windows" if len(reports) == 1 and reports[0].windows > 1 else "the windows"
    return f"per window: each of {number} counted by itself."


def _intervals(reports: "Sequence[Report]") -> list[str]:
    """Returns the methods of the intervals that are shown, and why others are not."""
    single = [report for report in reports if len(report.runs) == 1]
    notes = []
    if any(report.labels for report in single):
        notes.append("95 % interval: Wilson's score interval, for movies drawn independently.")
    errors = [report for report in single if not report.labels]
    if any(report.interval is not None for report in errors):
        notes.append("95 % interval of an MSE: BCa bootstrap over the movies.")
    if any(report.interval is None for report in errors):
        notes.append("The MSE of fewer than ten movies, or of equal errors, has no interval.")
    return notes


def _classes(reports: "Sequence[Report]") -> str:
    everything = "--json prints all figures, the confusion matrix included; --plots draws them."
    if len(reports) > 1:
        return f"Classes: {everything}"
    (report,) = reports
    notes = [
        "recall: share of a class's movies that were recognised; precision: share of its predictions that are right"
    ]
    if len(report.runs) > 1:
        notes.append(f"both of the sum of {len(report.runs)} runs")
    if len(report.labels) > MOST_CLASSES:
        notes.append(f"the {MOST_CLASSES} of {len(report.labels)} classes with the lowest recall are shown")
    return f"{'; '.join(notes)}. {everything}"
