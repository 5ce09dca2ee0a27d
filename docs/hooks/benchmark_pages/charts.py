"""Bar and line charts as inline SVG: no script, no font, and colours from the style sheet, for light and dark pages."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

ROW_HEIGHT = 40  # pixels: a line of text above a bar
BAR_HEIGHT = 12  # pixels

# Line charts scale with the page. At this width, in user units, text has its natural size on a narrow screen.
WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 24, 38

MARKERS = ("circle", "square", "diamond", "triangle")


class Bar(NamedTuple):
    """One row of a bar chart.

    Attributes:
        label: Text above the bar.
        value: Length of the bar.
        text: The value as it is written.
        emphasis: Whether the bar takes the accent colour.
    """

    label: str
    value: float
    text: str
    emphasis: bool = False


class Line(NamedTuple):
    """One line of a line chart.

    Attributes:
        label: Name in the legend.
        points: Pairs (x, y) in ascending x.
        band: Pairs (low, high) for each point; empty for no band.
    """

    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()


class Axis(NamedTuple):
    """One axis of a line chart.

    Attributes:
        label: What it measures, with the unit.
        ticks: Values with their texts; the first and the last are the ends of the axis.
        log: Whether the scale is logarithmic.
    """

    label: str
    ticks: Mapping[float, str]
    log: bool = False

    def share(self, value: float) -> float:
        """Returns the position of a value along the axis, from 0 to 1."""
        scale = math.log if self.log else float
        low, high = scale(min(self.ticks)), scale(max(self.ticks))
        return (scale(value) - low) / (high - low)


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Draws horizontal bars from zero; widths are percentages, so text keeps its size on every screen."""
    longest = max(row.value for row in rows)
    parts = []
    for i, row in enumerate(rows):
        top, share = i * ROW_HEIGHT, 100 * row.value / longest
        style = "vb-accent" if row.emphasis else "vb-plain"
        parts += [
            f'<text x="0" y="{top + 15}">{escape(row.label)}</text>',
            f'<text x="100%" y="{top + 15}" text-anchor="end" class="vb-value">{escape(row.text)}</text>',
            f'<rect x="0" y="{top + 21}" width="100%" height="{BAR_HEIGHT}" rx="2" class="vb-track"/>',
            f'<rect x="0" y="{top + 21}" width="{share:.2f}%" height="{BAR_HEIGHT}" rx="2" class="{style}"/>',
        ]
    svg = f'<svg width="100%" height="{len(rows) * ROW_HEIGHT}" role="img" aria-label="{escape(title)}">'
    return _figure(title, f"{svg}{''.join(parts)}</svg>")


def lines(title: str, x: Axis, y: Axis, series: Sequence[Line], reference: float | None = None) -> str:
    """Draws lines with markers, a legend, and optionally a dashed horizontal reference line."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(a: float, b: float) -> tuple[float, float]:
        return LEFT + x.share(a) * (right - LEFT), bottom - y.share(b) * (bottom - TOP)

    parts = []
    for value, text in y.ticks.items():
        _, level = place(min(x.ticks), value)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}" class="vb-grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value, text in x.ticks.items():
        across, _ = place(value, min(y.ticks))
        parts.append(f'<text x="{across:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 5}" text-anchor="end">{escape(x.label)}</text>')
    parts.append(f'<text x="0" y="12">{escape(y.label)}</text>')
    if reference is not None:
        _, level = place(min(x.ticks), reference)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}" class="vb-reference"/>')
    for i, line in enumerate(series):
        at = [place(*point) for point in line.points]
        if line.band:
            xs = [a for a, _ in line.points]
            edge = [place(a, low) for a, (low, _) in zip(xs, line.band, strict=True)]
            edge += [place(a, high) for a, (_, high) in reversed(list(zip(xs, line.band, strict=True)))]
            parts.append(f'<polygon points="{_path(edge)}" class="vb-band vb-s{i}"/>')
        parts.append(f'<polyline points="{_path(at)}" class="vb-line vb-s{i}"/>')
        parts += [_marker(i, *point) for point in at]
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return _figure(title, svg, "vb-lines")


def legend(labels: Sequence[str]) -> str:
    """Returns one legend for line charts that share their series."""
    items = [
        f'<span><svg width="14" height="14" aria-hidden="true">{_marker(i, 7, 7)}</svg> {escape(label)}</span>'
        for i, label in enumerate(labels)
    ]
    return f'<p class="vb-legend">{"".join(items)}</p>\n'


def panels(figures: Sequence[str]) -> str:
    """Sets figures side by side where the screen is wide enough."""
    return f'<div class="vb-panels">\n{"".join(figures)}</div>\n'


def _figure(title: str, svg: str, style: str = "vb-bars") -> str:
    return f'<figure class="vb-chart {style}"><figcaption>{escape(title)}</figcaption>{svg}</figure>\n'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _marker(series: int, a: float, b: float) -> str:
    match MARKERS[series % len(MARKERS)]:
        case "circle":
            return f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.6" class="vb-mark vb-s{series}"/>'
        case "square":
            corners = [(a - 3.2, b - 3.2), (a + 3.2, b - 3.2), (a + 3.2, b + 3.2), (a - 3.2, b + 3.2)]
        case "diamond":
            corners = [(a, b - 4.4), (a + 4.4, b), (a, b + 4.4), (a - 4.4, b)]
        case _:
            corners = [(a, b - 4.4), (a + 4.2, b + 3.4), (a - 4.2, b + 3.4)]
    return f'<polygon points="{_path(corners)}" class="vb-mark vb-s{series}"/>'
