"""Lays out a timeline: where its thumbnails, plots, axis and captions lie on the page.

All lengths are in CSS pixels, and y grows downwards. From top to bottom::

    title, subtitle
    strip of thumbnails, as wide as the plots and on the same time axis
    for each head: heading (name and verdict), plot with its legend on the right, gap
    time axis
    captions
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vis4mer.runtime.prediction import Prediction
from vis4mer.text import clock, printable
from vis4mer.timeline.captions import captions, subtitle
from vis4mer.timeline.drawing import Area, Dot, Drawing, Label, Line, Picture, Point, Shape, fit
from vis4mer.timeline.html import Readout, ReadoutLine, ReadoutPlot
from vis4mer.timeline.plots import Plot, plot_head

_WIDTH = 1120
_PLOT_X, _PLOT_WIDTH, _PLOT_HEIGHT = 64, 752, 150
_PLOT_RIGHT = _PLOT_X + _PLOT_WIDTH
_LEGEND_X, _LEGEND_WIDTH, _LEGEND_LINE = _PLOT_RIGHT + 24, 256, 22
_TITLE_WIDTH = _WIDTH - 2 * _PLOT_X
_STRIP_Y, _STRIP_HEIGHT = 96, 64
_HEADING, _GAP = 66, 16  # above each plot, and below it

# Steps that look round as minutes and seconds, or hours and minutes, which decimal steps such as 20 or 50 do not.
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)  # seconds
_MOST_TIME_TICKS = 10


@dataclass(frozen=True)
class Layout:
    """A timeline without its thumbnails.

    Attributes:
        prediction: Prediction that is drawn.
        plots: Plots of the heads, from top to bottom.
        duration: Time that the timeline spans, in seconds.
    """

    prediction: Prediction
    plots: Sequence[Plot]
    duration: float

    strip_width = float(_PLOT_WIDTH)
    strip_height = float(_STRIP_HEIGHT)

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        """Lays out a prediction."""
        # A window of a movie with a wrong duration may end after it.
        # The time axis must contain every window, or curves would leave the plot.
        duration = max(prediction.duration, prediction.windows[-1].end)
        return cls(prediction, [plot_head(name, head) for name, head in prediction.heads.items()], duration)

    def draw(self, thumbnails: NDArray[np.uint8]) -> Drawing:
        """Draws the timeline.

        Args:
            thumbnails: Pictures uint8 ``[N, H, W, 3]`` of the movie in equal steps, which fill the strip.
        """
        shapes: list[Shape] = [*self._draw_title(), *self._draw_strip(thumbnails)]
        for plot, top in zip(self.plots, self._tops, strict=True):
            shapes += self._draw_plot(plot, top)
            shapes += _draw_legend(plot, top)
        shapes += self._draw_time_axis()
        for line, text in enumerate(captions(self.prediction)):
            shapes.append(Label((_PLOT_X, self._bottom + 52 + 18 * line), text, 12, "muted"))
        return Drawing(_WIDTH, self._bottom + 100, shapes)

    def readout(self) -> Readout:
        """Returns the numbers that the HTML page's script shows under the pointer."""
        return Readout(
            x=_PLOT_X,
            width=_PLOT_WIDTH,
            top=_STRIP_Y,
            bottom=self._bottom,
            duration=self.duration,
            windows=[(window.start, window.end) for window in self.prediction.windows],
            centres=self._centres,
            plots=[
                ReadoutPlot(
                    heading=plot.heading,
                    top=top,
                    height=_PLOT_HEIGHT,
                    low=plot.low,
                    high=plot.high,
                    lines=[ReadoutLine(curve.label, f"line{i}", curve.values) for i, curve in enumerate(plot.curves)],
                    percent=plot.percent,
                )
                for plot, top in zip(self.plots, self._tops, strict=True)
            ],
        )

    @property
    def _tops(self) -> list[int]:
        """The y of each plot's upper edge."""
        first = _STRIP_Y + _STRIP_HEIGHT + _HEADING
        return [first + i * (_PLOT_HEIGHT + _GAP + _HEADING) for i in range(len(self.plots))]

    @property
    def _bottom(self) -> int:
        """The y of the last plot's lower edge, where the time axis is."""
        return self._tops[-1] + _PLOT_HEIGHT

    @property
    def _centres(self) -> list[float]:
        """The middle of each window, in seconds."""
        # A prediction holds for its whole window, so the middle misrepresents it least.
        return [(window.start + window.end) / 2 for window in self.prediction.windows]

    def _x(self, seconds: float) -> float:
        return _PLOT_X + _PLOT_WIDTH * seconds / self.duration

    def _draw_title(self) -> Iterator[Shape]:
        name = printable(Path(self.prediction.video).name)
        yield Label((_PLOT_X, 48), fit(name, _TITLE_WIDTH, 24), 24, bold=True)
        yield Label((_PLOT_X, 74), fit(subtitle(self.prediction, self.duration), _TITLE_WIDTH, 13), 13, "muted")

    def _draw_strip(self, thumbnails: NDArray[np.uint8]) -> Iterator[Shape]:
        step = _PLOT_WIDTH / len(thumbnails)
        for i, pixels in enumerate(thumbnails):
            # One pixel of the page's colour separates the pictures.
            yield Picture((_PLOT_X + i * step, _STRIP_Y), step - 1, _STRIP_HEIGHT, pixels)

    def _draw_time_axis(self) -> Iterator[Shape]:
        y = self._bottom
        for seconds in time_ticks(self.duration):
            x = self._x(seconds)
            yield Line([(x, y), (x, y + 5)], "muted")
            yield Label((x, y + 20), clock(seconds), 12, "muted", "middle")

    def _draw_plot(self, plot: Plot, top: int) -> Iterator[Shape]:
        yield Label((_PLOT_X, top - 34), fit(plot.heading, _PLOT_WIDTH, 13), 13, "muted")
        yield Label((_PLOT_X, top - 14), fit(plot.verdict, _PLOT_WIDTH, 16), 16, bold=True)
        for value, text in plot.ticks:
            y = _y(value, plot, top)
            yield Line([(_PLOT_X, y), (_PLOT_RIGHT, y)], "grid")
            # A label's y is its baseline: 4 pixels below the line, text of size 12 is centred on it.
            yield Label((_PLOT_X - 10, y + 4), text, 12, "muted", "end")
        curves = [
            [
                (self._x(seconds), _y(value, plot, top))
                for seconds, value in zip(self._centres, curve.values, strict=True)
            ]
            for curve in plot.curves
        ]
        # The area comes before the curves, because it would cover them.
        yield _area_under(curves[0], top + _PLOT_HEIGHT)
        # Later shapes cover earlier ones, and the most probable label comes first in `curves`: it is drawn last.
        for rank, points in reversed(list(enumerate(curves))):
            yield from _draw_curve(points, f"line{rank}", 3.0 if rank == 0 else 1.75)


def _y(value: float, plot: Plot, top: int) -> float:
    return top + _PLOT_HEIGHT * (plot.high - value) / (plot.high - plot.low)


def _area_under(points: Sequence[Point], bottom: float) -> Area:
    """Returns the area between a curve, continued level to both edges of the plot, and the plot's lower edge."""
    (_, first), (_, last) = points[0], points[-1]
    edges = (_PLOT_X, bottom), (_PLOT_X, first), *points, (_PLOT_RIGHT, last), (_PLOT_RIGHT, bottom)
    return Area(edges, "line0")


def _draw_curve(points: Sequence[Point], colour: str, thickness: float) -> Iterator[Shape]:
    """Draws a curve through the windows' centres; no window is centred near the edges, so it is dashed there."""
    (_, first), (_, last) = points[0], points[-1]
    if len(points) == 1:  # one window stands for the whole movie
        yield Line([(_PLOT_X, first), (_PLOT_RIGHT, first)], colour, thickness)
        return
    yield Line([(_PLOT_X, first), points[0]], colour, thickness, dashed=True)
    yield Line(points, colour, thickness)
    yield Line([points[-1], (_PLOT_RIGHT, last)], colour, thickness, dashed=True)


def _draw_legend(plot: Plot, top: int) -> Iterator[Shape]:
    for rank, curve in enumerate(plot.curves):
        y = top + 12 + _LEGEND_LINE * rank
        yield Dot((_LEGEND_X + 5, y - 4), 5, f"line{rank}")
        # The label leaves room for the dot on its left and the overall value on its right.
        yield Label((_LEGEND_X + 18, y), fit(curve.label, _LEGEND_WIDTH - 72, 13), 13, bold=rank == 0)
        yield Label((_LEGEND_X + _LEGEND_WIDTH, y), curve.overall, 13, anchor="end", bold=rank == 0)
    if plot.rest:
        yield Label((_LEGEND_X + 18, top + 12 + _LEGEND_LINE * len(plot.curves)), plot.rest, 13, "muted")


def time_ticks(duration: float) -> list[float]:
    """Returns the times, in seconds, that the axis of a movie names: the finest round steps that leave room."""
    # Timelines of more than five days get more ticks than `_MOST_TIME_TICKS`, at the longest step.
    step = next((step for step in _TIME_STEPS if duration / step <= _MOST_TIME_TICKS), _TIME_STEPS[-1])
    return [float(i * step) for i in range(int(duration / step) + 1)]
