"""Lays out a timeline for a page: where its thumbnails, plots, axes, legends and captions lie.

All lengths are in CSS pixels, and y grows downwards. From top to bottom::

    title, subtitle
    strip of thumbnails, as wide as the plots and on the same time axis
    for each head: heading (name and verdict), plot
    captions

On a wide page, legends are on the right of their plots, and the time axis is below the last plot. On others, each plot
has its time axis and its legend below it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vis4mer.runtime.prediction import Prediction
from vis4mer.text import clock, printable
from vis4mer.timeline.captions import captions, subtitle
from vis4mer.timeline.curves import draw_curves
from vis4mer.timeline.drawing import Drawing, Label, Line, Shape
from vis4mer.timeline.legend import Legend
from vis4mer.timeline.page import Page
from vis4mer.timeline.plots import Plot, plot_head
from vis4mer.timeline.series import group_size, group_windows
from vis4mer.timeline.strip import draw_strip
from vis4mer.timeline.ticks import time_ticks
from vis4mer.timeline.typesetting import Measure, fit, wrap, wrap_name

_TEXT, _SMALL, _VERDICT = 13, 13, 16  # font sizes
_LINE_HEIGHT = 19
_TITLE_TOP, _TITLE_GAP, _STRIP_GAP = 20, 4, 20
_HEADING_GAP, _GAP = 28, 18  # above a plot's heading, and below the plot
_VERDICT_HEIGHT, _VERDICT_GAP = 21, 8  # of a verdict's lines, and below them
_AXIS = 34  # height of the time axis with its labels
_TICK_LENGTH, _TICK_GAP = 5, 10
_TIME_TICK_WIDTH = 70  # of a label with the gap beside it
_LEGEND_GAP, _WIDEST_LEGEND = 28, 420


@dataclass(frozen=True)
class Layout:
    """A timeline for one page, without its thumbnails.

    Attributes:
        prediction: Prediction that is drawn.
        page: Page that it is laid out for.
        measure: Width of texts.
        plots: Plots of the heads, from top to bottom.
        duration: Time that the timeline spans, in seconds.
        legend: Dimensions of the legends.
    """

    prediction: Prediction
    page: Page
    measure: Measure
    plots: Sequence[Plot]
    duration: float
    legend: Legend

    @classmethod
    def of(cls, prediction: Prediction, page: Page, measure: Measure) -> Self:
        """Lays out a prediction."""
        # A window of a movie with a wrong duration may end after it.
        # The time axis must contain every window, or curves would leave the plot.
        duration = max(prediction.duration, prediction.windows[-1].end)
        plots = [plot_head(name, head) for name, head in prediction.heads.items()]
        width = _WIDEST_LEGEND if page.legend_beside else page.width - 2 * page.margin
        legend = Legend.of(plots, width, measure, one_column=page.legend_beside)
        return cls(prediction, page, measure, plots, duration, legend)

    @cached_property
    def plot_x(self) -> float:
        """Left edge of the plots, and of the thumbnails."""
        ticks = (self.measure(text, _SMALL, False) for plot in self.plots for _, text in plot.ticks)
        return round(self.page.margin + max(ticks) + _TICK_GAP)

    @cached_property
    def plot_width(self) -> float:
        """Width of the plots, and of the thumbnails."""
        has_legend_beside = self.page.legend_beside and self.legend.entry_width > 0
        beside = self.legend.entry_width + _LEGEND_GAP if has_legend_beside else 0
        return round(self.page.width - self.page.margin - beside - self.plot_x)

    @cached_property
    def group_size(self) -> int:
        """Number of windows that share one point of a curve."""
        return group_size(self.prediction.windows, self.duration, self.plot_width)

    @cached_property
    def strip_y(self) -> int:
        """Upper edge of the thumbnails."""
        return self._subtitle_y + len(self._subtitle) * _LINE_HEIGHT + _STRIP_GAP

    @cached_property
    def tops(self) -> list[int]:
        """Upper edge of each plot."""
        tops = []
        y = self.strip_y + self.page.strip_height
        for plot in self.plots:
            verdict = len(self._verdict(plot)) * _VERDICT_HEIGHT + _VERDICT_GAP
            tops.append(y + _HEADING_GAP + _LINE_HEIGHT + verdict)
            y = self._end(plot, tops[-1])
        return tops

    @property
    def bottom(self) -> int:
        """Lower edge of the last plot."""
        return self.tops[-1] + self.page.plot_height

    def draw(self, thumbnails: NDArray[np.uint8]) -> Drawing:
        """Draws the timeline.

        Args:
            thumbnails: Pictures uint8 ``[N, H, W, 3]`` of the movie in equal steps, at least as many as fill the strip.
        """
        strip = self.plot_x, self.strip_y, self.plot_width, self.page.strip_height
        shapes: list[Shape] = [*self._draw_title(), *draw_strip(thumbnails, *strip, self.measure)]
        for plot, top in zip(self.plots, self.tops, strict=True):
            shapes += self._draw_plot(plot, top)
        y = max(self._end(self.plots[-1], self.tops[-1]), self.bottom + _AXIS) + 12
        shapes += _lines(self._captions, self._text_x, y, _SMALL, _LINE_HEIGHT, "muted")
        height = y + len(self._captions) * _LINE_HEIGHT + 20
        return Drawing(self.page.width, height, shapes, f"Timeline of {self._name}", self._description)

    @property
    def _name(self) -> str:
        return printable(Path(self.prediction.video).name)

    @property
    def _text_x(self) -> float:
        return self.plot_x if self.page.legend_beside else self.page.margin

    @property
    def _text_width(self) -> float:
        return self.page.width - self.page.margin - self._text_x

    @cached_property
    def _title(self) -> list[str]:
        return wrap_name(self._name, self._text_width, self.page.title_size, self.measure, bold=True)

    @property
    def _title_height(self) -> int:
        """Height of a line of the title."""
        return round(1.25 * self.page.title_size)

    @property
    def _subtitle_y(self) -> int:
        return _TITLE_TOP + len(self._title) * self._title_height + _TITLE_GAP

    @cached_property
    def _subtitle(self) -> list[str]:
        return wrap(subtitle(self.prediction, self.duration), self._text_width, _TEXT, self.measure)

    @cached_property
    def _captions(self) -> list[str]:
        paragraphs = captions(self.prediction, self.group_size)
        return [line for text in paragraphs for line in wrap(text, self._text_width, _SMALL, self.measure)]

    @property
    def _description(self) -> str:
        """The drawing in words, for readers who do not see it."""
        verdicts = [
            f"{plot.heading}: {', '.join(f'{curve.label} {curve.overall}' for curve in plot.curves)}."
            for plot in self.plots
        ]
        about = f"{subtitle(self.prediction, self.duration)}."
        return " ".join([about, *verdicts, *captions(self.prediction, self.group_size)])

    def _end(self, plot: Plot, top: int) -> int:
        """Returns the y below a plot and what belongs to it."""
        bottom = top + self.page.plot_height
        if not self.page.legend_beside:
            return bottom + _AXIS + self.legend.height(plot)
        # A legend may be higher than its plot.
        return max(bottom, top + self.legend.height(plot)) + _GAP

    def _x(self, seconds: float) -> float:
        return self.plot_x + self.plot_width * seconds / self.duration

    def _draw_title(self) -> Iterator[Shape]:
        x, size = self._text_x, self.page.title_size
        yield from _lines(self._title, x, _TITLE_TOP, size, self._title_height, "ink", bold=True)
        yield from _lines(self._subtitle, x, self._subtitle_y, _TEXT, _LINE_HEIGHT, "muted")

    def _verdict(self, plot: Plot) -> list[str]:
        return wrap_name(plot.verdict, self._text_width, _VERDICT, self.measure, bold=True)

    def _draw_plot(self, plot: Plot, top: int) -> Iterator[Shape]:
        right, bottom = self.plot_x + self.plot_width, top + self.page.plot_height
        yield from self._draw_heading(plot, top)
        for value, text in plot.ticks:
            y = bottom - self.page.plot_height * plot.part(value)
            yield Line([(self.plot_x, y), (right, y)], "grid")
            # A label's y is its baseline: 4 pixels below the line, its text is centred on the line.
            yield Label((self.plot_x - _TICK_GAP, y + 4), text, _SMALL, "muted", "end")
        xs = [self._x(group.centre) for group in group_windows(self.prediction.windows, self.group_size)]
        yield from draw_curves(plot, self.group_size, xs, (self.plot_x, right), (top, bottom))
        if self.page.legend_beside:
            yield from self.legend.draw(plot, right + _LEGEND_GAP, top)
        else:
            yield from self.legend.draw(plot, self._text_x, bottom + _AXIS)
        if plot is self.plots[-1] or not self.page.legend_beside:
            yield from self._draw_time_axis(bottom)

    def _draw_heading(self, plot: Plot, top: int) -> Iterator[Shape]:
        x, verdict = self._text_x, self._verdict(plot)
        y = top - _VERDICT_GAP - len(verdict) * _VERDICT_HEIGHT
        name = fit(plot.heading, self._text_width, _TEXT, self.measure)
        yield from _lines([name], x, y - _LINE_HEIGHT, _TEXT, _LINE_HEIGHT, "muted")
        yield from _lines(verdict, x, y, _VERDICT, _VERDICT_HEIGHT, "ink", bold=True)

    def _draw_time_axis(self, y: float) -> Iterator[Shape]:
        for seconds in time_ticks(self.duration, int(self.plot_width / _TIME_TICK_WIDTH)):
            x, text = self._x(seconds), clock(seconds)
            yield Line([(x, y), (x, y + _TICK_LENGTH)], "muted")
            # A label at the plot's end must not leave the page.
            furthest = self.page.width - self.measure(text, _SMALL, False) / 2 - 2
            yield Label((min(x, furthest), y + 20), text, _SMALL, "muted", "middle")


def _lines(
    lines: Sequence[str], x: float, y: float, size: float, line_height: float, colour: str, bold: bool = False
) -> Iterator[Shape]:
    """Draws lines of text, the first one's upper edge at `y`."""
    for i, text in enumerate(lines):
        yield Label((x, y + i * line_height + size), text, size, colour, bold=bold)
