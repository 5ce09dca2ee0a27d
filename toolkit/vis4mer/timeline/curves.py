"""The curves of a plot: lines, with a band around each where one point stands for several windows."""

from collections.abc import Iterator, Sequence

from vis4mer.timeline.drawing import Area, Line, Point, Shape
from vis4mer.timeline.plots import Plot
from vis4mer.timeline.series import condense

# Of the most probable label, and of the others; lines in CSS pixels. Six strong bands would hide each other.
_FIRST_OPACITY, _OPACITY = 0.25, 0.1
_FIRST_WIDTH, _WIDTH = 2.75, 1.75


def draw_curves(
    plot: Plot, group_size: int, xs: Sequence[float], across: tuple[float, float], down: tuple[float, float]
) -> Iterator[Shape]:
    """Draws all curves of a plot, the most probable label over the others.

    Args:
        plot: Plot whose curves are drawn.
        group_size: Number of consecutive windows that share a point.
        xs: Horizontal position of each point, in CSS pixels.
        across: Left and right edge of the plot, in CSS pixels.
        down: Upper and lower edge of the plot, in CSS pixels.
    """
    top, bottom = down

    def points(values: Sequence[float]) -> list[Point]:
        return [(x, bottom - (bottom - top) * plot.part(value)) for x, value in zip(xs, values, strict=True)]

    series = [condense(curve.values, group_size) for curve in plot.curves]
    lines = [points(curve.mean.tolist()) for curve in series]
    if group_size > 1:
        for rank, curve in reversed(list(enumerate(series))):
            band = [*points(curve.high.tolist()), *reversed(points(curve.low.tolist()))]
            yield Area(band, f"line{rank}", _OPACITY if rank else _FIRST_OPACITY)
    elif plot.percent:
        # A regression head's axis need not begin at zero, so an area under its curve would have no meaning.
        yield _area_under(lines[0], across, bottom)
    # Later shapes cover earlier ones, and the most probable label is the first curve: it is drawn last.
    for rank, line in reversed(list(enumerate(lines))):
        yield from _draw_line(line, across, f"line{rank}", _WIDTH if rank else _FIRST_WIDTH)


def _area_under(points: Sequence[Point], across: tuple[float, float], bottom: float) -> Area:
    """Returns the area between a curve, continued level to both edges of the plot, and the plot's lower edge."""
    (left, right), (_, first), (_, last) = across, points[0], points[-1]
    return Area([(left, bottom), (left, first), *points, (right, last), (right, bottom)], "line0")


def _draw_line(points: Sequence[Point], across: tuple[float, float], colour: str, thickness: float) -> Iterator[Shape]:
    """Draws a line through the windows' middles; no window is centred near the edges, so it is dashed there."""
    (left, right), (_, first), (_, last) = across, points[0], points[-1]
    if len(points) == 1:  # one window stands for the whole movie
        yield Line([(left, first), (right, first)], colour, thickness)
        return
    yield Line([(left, first), points[0]], colour, thickness, dashed=True)
    yield Line(points, colour, thickness)
    yield Line([points[-1], (right, last)], colour, thickness, dashed=True)
