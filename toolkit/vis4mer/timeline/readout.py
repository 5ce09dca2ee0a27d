"""The numbers from which an HTML timeline's script shows the values under the pointer."""

from collections.abc import Sequence
from dataclasses import dataclass

from vis4mer.timeline.layout import Layout
from vis4mer.timeline.plots import Curve
from vis4mer.timeline.series import Group, condense, group_windows


@dataclass(frozen=True)
class ReadoutLine:
    """One curve.

    Attributes:
        label: Label of the curve.
        colour: Name of its colour.
        mean: Mean over each group of windows.
        low: Lowest value of each group; empty if each group is one window.
        high: Highest value of each group; empty if each group is one window.
    """

    label: str
    colour: str
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class ReadoutPlot:
    """One plot: its heading, the values at its lower and upper edge, and its curves."""

    heading: str
    low: float
    high: float
    percent: bool
    lines: Sequence[ReadoutLine]


@dataclass(frozen=True)
class Place:
    """Position of the plots in one of the page's drawings, in CSS pixels.

    Attributes:
        x: Left edge of the plots.
        width: Width of the plots.
        top: Upper edge of the mark over a group of windows, which covers the thumbnails too.
        bottom: Lower edge of that mark.
        tops: Upper edge of each plot.
        height: Height of each plot.
    """

    x: float
    width: float
    top: float
    bottom: float
    tops: Sequence[float]
    height: float


@dataclass(frozen=True)
class Readout:
    """All numbers for the script.

    Attributes:
        duration: Time that the width of a plot stands for, in seconds.
        groups: Groups of windows, in order of time; each is one window if the widest drawing has room for all.
        plots: Plots from top to bottom.
        places: Positions of the plots in each drawing.
    """

    duration: float
    groups: Sequence[Group]
    plots: Sequence[ReadoutPlot]
    places: Sequence[Place]


def readout(layouts: Sequence[Layout]) -> Readout:
    """Returns the numbers for a page with several layouts of one timeline, in the resolution of the last one."""
    finest = layouts[-1]
    size = finest.group_size
    return Readout(
        duration=finest.duration,
        groups=group_windows(finest.prediction.windows, size),
        plots=[
            ReadoutPlot(
                heading=plot.heading,
                low=plot.low,
                high=plot.high,
                percent=plot.percent,
                lines=[_line(curve, f"line{i}", size) for i, curve in enumerate(plot.curves)],
            )
            for plot in finest.plots
        ],
        places=[
            Place(layout.plot_x, layout.plot_width, layout.strip_y, layout.bottom, layout.tops, layout.page.plot_height)
            for layout in layouts
        ],
    )


def _line(curve: Curve, colour: str, group_size: int) -> ReadoutLine:
    series = condense(curve.values, group_size)
    low, high = (series.low.tolist(), series.high.tolist()) if group_size > 1 else ([], [])
    return ReadoutLine(curve.label, colour, series.mean.tolist(), low, high)
