"""The legends of a timeline's plots: each label with its value for the whole movie beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from vis4mer.timeline.drawing import Dot, Label, Shape
from vis4mer.timeline.plots import Plot
from vis4mer.timeline.typesetting import Measure, wrap_name

_SIZE = 13  # of the font
_LINE_HEIGHT, _ENTRY_GAP = 17, 5  # between the lines of a label, and between entries
_INDENT = 18  # from the dot's left edge to the label
_LABEL_GAP = 14  # between the label and its value
_COLUMN_GAP = 28


@dataclass(frozen=True)
class Legend:
    """Dimensions that the legends of all plots of a page share, in CSS pixels.

    A regression head has no legend, because its only value is in the heading.

    Attributes:
        label_width: Width of the labels; longer ones are broken into lines.
        entry_width: Width of a label with its dot and value; 0 if no plot has a legend.
        columns: Number of columns.
        measure: Width of texts.
    """

    label_width: float
    entry_width: float
    columns: int
    measure: Measure

    @classmethod
    def of(cls, plots: Sequence[Plot], width: float, measure: Measure, *, one_column: bool) -> Self:
        """Makes entries as wide as the longest label and the longest value need.

        Args:
            plots: All plots of the page.
            width: Largest width of the legend, in CSS pixels.
            measure: Width of texts.
            one_column: Whether entries are one below another even if several columns fit.
        """
        entries = [entry for plot in plots for entry in _entries(plot)]
        if not entries:
            return cls(0, 0, 1, measure)
        # The first entry is set in semi-bold, the wider weight.
        value_width = max(measure(value, _SIZE, True) for _, value in entries)
        besides = _INDENT + _LABEL_GAP + value_width
        label_width = min(max(measure(label, _SIZE, True) for label, _ in entries), width - besides)
        entry_width = label_width + besides
        columns = 1 if one_column else int((width + _COLUMN_GAP) / (entry_width + _COLUMN_GAP))
        return cls(label_width, entry_width, max(1, columns), measure)

    def height(self, plot: Plot) -> int:
        """Returns the height of a plot's legend."""
        return sum(_height(row) for row in self._rows(plot))

    def draw(self, plot: Plot, x: float, top: float) -> Iterator[Shape]:
        """Draws the legend of a plot, with its upper left corner at `x` and `top`."""
        entries, rank = _entries(plot), 0
        for row in self._rows(plot):
            baseline = top + 12
            for column, lines in enumerate(row):
                left = x + column * (self.entry_width + _COLUMN_GAP)
                bold, colour = rank == 0, "ink" if rank < len(plot.curves) else "muted"
                if rank < len(plot.curves):
                    yield Dot((left + 5, baseline - 4), 5, f"line{rank}")
                for i, text in enumerate(lines):
                    yield Label((left + _INDENT, baseline + i * _LINE_HEIGHT), text, _SIZE, colour, bold=bold)
                yield Label((left + self.entry_width, baseline), entries[rank][1], _SIZE, colour, "end", bold)
                rank += 1
            top += _height(row)

    def _rows(self, plot: Plot) -> list[list[list[str]]]:
        """Returns the lines of each label, by row and column."""
        labels = [
            wrap_name(label, self.label_width, _SIZE, self.measure, bold=i == 0)
            for i, (label, _) in enumerate(_entries(plot))
        ]
        return [labels[i : i + self.columns] for i in range(0, len(labels), self.columns)]


def _height(row: Sequence[Sequence[str]]) -> int:
    return max(map(len, row)) * _LINE_HEIGHT + _ENTRY_GAP


def _entries(plot: Plot) -> list[tuple[str, str]]:
    """Returns the labels and values of a plot's legend."""
    if not plot.percent:
        return []
    entries = [(curve.label, curve.overall) for curve in plot.curves]
    return [*entries, plot.rest] if plot.rest else entries
