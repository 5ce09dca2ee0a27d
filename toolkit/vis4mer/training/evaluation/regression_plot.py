"""Predictions and errors of a regression."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vis4mer.training.evaluation.plot_style import INK, MUTED, SERIES, title
from vis4mer.training.evaluation.report import Report

_FEWEST_FAINT_POINTS = 100  # as many points overlap
_MARGIN = 0.06  # of the range of the values


def draw_regression(report: Report) -> Figure:
    """Draws every movie's prediction over its true value, and beside it the error, prediction minus true value."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    predictions, errors = figure.subplots(1, 2)
    several = len(report.runs) > 1
    opacity = 0.5 if report.movies * len(report.runs) >= _FEWEST_FAINT_POINTS else 0.9
    values = [np.array([float(report.baseline.prediction)])]
    for number, run in enumerate(report.runs):
        truth = run.predictions.targets.double().numpy()
        predicted = run.predictions.scores.squeeze(1).numpy()
        values += [truth, predicted]
        points = {"s": 22, "color": SERIES[number % len(SERIES)], "alpha": opacity, "linewidths": 0}
        name = f"run {number + 1}: MSE {run.predictions.metric:.4g}" if several else "movie"
        predictions.scatter(truth, predicted, label=name, **points)
        errors.scatter(truth, predicted - truth, **points)
    low, high = _limits(np.concatenate(values))
    _draw_lines(predictions, errors, report)
    predictions.set(xlabel="true value", ylabel="predicted value", xlim=(low, high), ylim=(low, high), aspect="equal")
    errors.set(xlabel="true value", ylabel="error: predicted minus true value", xlim=(low, high))
    # An error of zero stays in the middle, so that a bias to one side is seen.
    reach = 1.05 * max(map(abs, errors.get_ylim()))
    errors.set_ylim(-reach, reach)
    for axes in (predictions, errors):
        axes.grid()
    figure.suptitle(title(report, _figure(report)), x=0.01, ha="left", size=10)
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _draw_lines(predictions: Axes, errors: Axes, report: Report) -> None:
    baseline = report.baseline
    predictions.axline((0, 0), slope=1, color=INK, linewidth=1, label="prediction equals true value")
    predictions.axhline(
        float(baseline.prediction),
        color=MUTED,
        linestyle="--",
        linewidth=1,
        label=f"baseline: mean of the {baseline.split} movies, MSE {baseline.metric:.4g}",
    )
    errors.axhline(0, color=INK, linewidth=1)


def _limits(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    """Returns a range that holds all finite values with a margin."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def _figure(report: Report) -> str:
    runs = "" if len(report.runs) == 1 else f", mean of {len(report.runs)} runs"
    return f"mean squared error {report.metric.mean:.4g}{runs}"
