"""The content of a timeline's plots, one for each head, before it is laid out."""

from collections.abc import Sequence
from dataclasses import dataclass

from vis4mer.runtime.prediction import HeadPrediction
from vis4mer.text import printable
from vis4mer.timeline.ticks import number, value_ticks

_MOST_CURVES = 6  # as many as there are colours that are easy to tell apart


@dataclass(frozen=True)
class Curve:
    """One label's probability, or one regression head's value, over the windows.

    Attributes:
        label: Name of the curve.
        overall: Value for the whole movie, formatted.
        values: Value for each window.
    """

    label: str
    overall: str
    values: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """One head's plot.

    Attributes:
        heading: Name of the head.
        verdict: Prediction for the whole movie, formatted.
        curves: Curves, the most probable label first.
        rest: Number of labels that have no curve, and their common probability, formatted; None if all have one.
        ticks: Values with their formatted text, ascending. The first and last bound the plot.
        percent: Whether values are probabilities, to be shown as percentages.
    """

    heading: str
    verdict: str
    curves: Sequence[Curve]
    rest: tuple[str, str] | None
    ticks: Sequence[tuple[float, str]]
    percent: bool

    @property
    def low(self) -> float:
        """Value at the plot's lower edge."""
        return self.ticks[0][0]

    @property
    def high(self) -> float:
        """Value at the plot's upper edge."""
        return self.ticks[-1][0]

    def part(self, value: float) -> float:
        """Returns the height of a value in the plot: 0 at the lower edge, 1 at the upper one."""
        return (value - self.low) / (self.high - self.low)


def plot_head(name: str, head: HeadPrediction) -> Plot:
    """Returns the plot of one head."""
    return _plot_labels(name, head) if head.value is None else _plot_value(name, head, head.value)


def _plot_value(name: str, head: HeadPrediction, mean: float) -> Plot:
    values = [window.value or 0.0 for window in head.windows]
    curve = Curve("value", number(mean), values)
    return Plot(name, number(mean), [curve], None, value_ticks(min(values), max(values)), percent=False)


def _plot_labels(name: str, head: HeadPrediction) -> Plot:
    labels = list(head.probabilities)
    ranked = sorted(labels, key=lambda label: -head.probabilities[label])
    shown, hidden = ranked[:_MOST_CURVES], ranked[_MOST_CURVES:]
    curves = []
    for label in shown:
        index = labels.index(label)
        values = [window.probabilities[index] for window in head.windows]
        curves.append(Curve(printable(label), f"{head.probabilities[label]:.1%}", values))
    verdict = f"{curves[0].label}  {curves[0].overall}"
    probability = sum(head.probabilities[label] for label in hidden)
    rest = (f"{len(hidden)} more", f"{probability:.1%}") if hidden else None
    return Plot(name, verdict, curves, rest, [(0.0, "0%"), (0.5, "50%"), (1.0, "100%")], percent=True)
