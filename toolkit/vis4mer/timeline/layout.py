"""Draws a prediction over the movie's time, with thumbnails, as a PNG or as one self-contained HTML page."""

import contextlib
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.errors import BundleError, ConfigError
from vis4mer.files import write_atomically
from vis4mer.runtime.loading import sample_bundle
from vis4mer.runtime.prediction import HeadPrediction, Prediction
from vis4mer.text import clock, printable
from vis4mer.timeline.drawing import Area, Dot, Drawing, Label, Line, Picture, Shape, to_png
from vis4mer.timeline.html import Readout, ReadoutLine, ReadoutPlot, to_html
from vis4mer.video.reader import open_video

_MOST_LINES = 6  # as many as there are colours that are easily told apart

# The page, in CSS pixels.
_WIDTH = 1120
_PLOT_X, _PLOT_WIDTH, _PLOT_HEIGHT = 64, 752, 150
_LEGEND_X, _LEGEND_WIDTH = _PLOT_X + _PLOT_WIDTH + 24, 256
_STRIP_Y, _STRIP_HEIGHT = 96, 64
_HEADING, _GAP = 66, 16
_THUMBNAIL_PIXELS_PER_UNIT = 2

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
_MOST_TIME_TICKS = 10


@dataclass(frozen=True)
class _Curve:
    """One label's probability, or one regression head's value: of the movie, and of each window."""

    label: str
    overall: str
    values: Sequence[float]


@dataclass(frozen=True)
class _Plot:
    """What is drawn of one head; ticks are values and their texts, and the first and last bound the plot."""

    heading: str
    verdict: str
    curves: Sequence[_Curve]
    rest: str
    ticks: Sequence[tuple[float, str]]


def save_timeline(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    """Draws the timeline of a prediction; reads the movie again for its thumbnails.

    Args:
        prediction: of a movie that is still where it was.
        path: ends in ``.png`` or ``.html``; a file that is already there is replaced.

    Raises:
        ConfigError: the path has another suffix.
        VideoError: the movie cannot be read any more.
        Vis4merError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".html"):
        raise ConfigError(f"timeline={os.fspath(path)!r}: must end in .png or .html")
    duration = max(prediction.duration, prediction.windows[-1].end)
    plots = [_plot(name, head) for name, head in prediction.heads.items()]
    drawing = _draw(prediction, plots, duration, _thumbnails(prediction.video, duration))
    if suffix == ".png":
        write_atomically(path, to_png(drawing))
    else:
        page = to_html(drawing, printable(Path(prediction.video).name), _readout(prediction, plots, duration))
        write_atomically(path, page.encode())


def _thumbnails(video: str, duration: float) -> NDArray[np.uint8]:
    """As many pictures of the movie's own shape as fill the strip, each from the middle of its part of the movie."""
    with open_video(video, Preprocessing(), video_decoder="pyav", times=[0.0]) as reader:
        aspect = reader.info.width / reader.info.height
    count = min(20, max(4, round(_PLOT_WIDTH / (_STRIP_HEIGHT * aspect))))
    preprocessing = Preprocessing(
        height=_STRIP_HEIGHT * _THUMBNAIL_PIXELS_PER_UNIT,
        width=round(_PLOT_WIDTH * _THUMBNAIL_PIXELS_PER_UNIT / count),
        resize="crop",
    )
    times = [(i + 0.5) / count * duration for i in range(count)]
    with open_video(video, preprocessing, video_decoder="pyav", times=times) as reader:
        return np.concatenate([batch.frames for batch in reader])


def _plot(name: str, head: HeadPrediction) -> _Plot:
    if head.value is not None:
        values = [window.value or 0.0 for window in head.windows]
        curve = _Curve("value", f"{head.value:.4g}", values)
        return _Plot(name, f"{head.value:.4g}", [curve], "", _value_ticks(min(values), max(values)))
    labels = list(head.probabilities)
    ranked = sorted(labels, key=lambda label: -head.probabilities[label])
    curves = [
        _Curve(
            printable(label),
            f"{head.probabilities[label]:.1%}",
            [window.probabilities[labels.index(label)] for window in head.windows],
        )
        for label in ranked[:_MOST_LINES]
    ]
    hidden = ranked[_MOST_LINES:]
    rest = f"{len(hidden)} more  {sum(head.probabilities[label] for label in hidden):.1%}" if hidden else ""
    verdict = f"{printable(ranked[0])}  {head.probabilities[ranked[0]]:.1%}"
    return _Plot(name, verdict, curves, rest, [(0.0, "0%"), (0.5, "50%"), (1.0, "100%")])


def _value_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Two to five round values that enclose low and high."""
    span = high - low or max(abs(high), 1.0)
    magnitude = 10.0 ** math.floor(math.log10(span / 2))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= span / 3)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [(i * step, f"{i * step:.4g}") for i in range(first, max(last, first + 1) + 1)]


def _draw(prediction: Prediction, plots: Sequence[_Plot], duration: float, pictures: NDArray[np.uint8]) -> Drawing:
    facts = f"{clock(duration)} long, {prediction.frames} frames seen"
    if prediction.damage:
        facts += f"; damaged: {'; '.join(prediction.damage.notes)}"
    title = _fit(printable(Path(prediction.video).name), _WIDTH - 2 * _PLOT_X, 24)
    shapes: list[Shape] = [
        Label((_PLOT_X, 48), title, 24, bold=True),
        Label((_PLOT_X, 74), _fit(facts, _WIDTH - 2 * _PLOT_X, 13), 13, "muted"),
    ]
    width = _PLOT_WIDTH / len(pictures)
    for i, pixels in enumerate(pictures):
        shapes.append(Picture((_PLOT_X + i * width, _STRIP_Y), width - 1, _STRIP_HEIGHT, pixels))
    for top, plot in zip(_tops(len(plots)), plots, strict=True):
        shapes += _draw_plot(plot, top, _centres(prediction), duration)
    bottom = _tops(len(plots) + 1)[-1] - _HEADING - _GAP
    for seconds in _time_ticks(duration):
        x = _x(seconds, duration)
        shapes.append(Line([(x, bottom), (x, bottom + 5)], "muted"))
        shapes.append(Label((x, bottom + 20), clock(seconds), 12, "muted", "middle"))
    for line, text in enumerate(_caption(prediction)):
        shapes.append(Label((_PLOT_X, bottom + 52 + 18 * line), text, 12, "muted"))
    return Drawing(_WIDTH, bottom + 100, shapes)


def _draw_plot(plot: _Plot, top: int, centres: Sequence[float], duration: float) -> Iterator[Shape]:
    bottom = top + _PLOT_HEIGHT
    yield Label((_PLOT_X, top - 34), _fit(plot.heading, _PLOT_WIDTH, 13), 13, "muted")
    yield Label((_PLOT_X, top - 14), _fit(plot.verdict, _PLOT_WIDTH, 16), 16, bold=True)
    for value, text in plot.ticks:
        y = _y(value, plot, top)
        yield Line([(_PLOT_X, y), (_PLOT_X + _PLOT_WIDTH, y)], "grid")
        yield Label((_PLOT_X - 10, y + 4), text, 12, "muted", "end")
    left, right = _PLOT_X, _PLOT_X + _PLOT_WIDTH
    curves = [
        [(_x(seconds, duration), _y(value, plot, top)) for seconds, value in zip(centres, curve.values, strict=True)]
        for curve in plot.curves
    ]
    first, last = curves[0][0][1], curves[0][-1][1]
    yield Area([(left, bottom), (left, first), *curves[0], (right, last), (right, bottom)], "line0")
    for rank, points in reversed(list(enumerate(curves))):
        colour, thickness = f"line{rank}", 3.0 if rank == 0 else 1.75
        if len(points) == 1:
            yield Line([(left, points[0][1]), (right, points[0][1])], colour, thickness)
            continue
        yield Line([(left, points[0][1]), points[0]], colour, thickness, dashed=True)
        yield Line(points, colour, thickness)
        yield Line([points[-1], (right, points[-1][1])], colour, thickness, dashed=True)
    for rank, curve in enumerate(plot.curves):
        y = top + 12 + 22 * rank
        yield Dot((_LEGEND_X + 5, y - 4), 5, f"line{rank}")
        yield Label((_LEGEND_X + 18, y), _fit(curve.label, _LEGEND_WIDTH - 72, 13), 13, bold=rank == 0)
        yield Label((_LEGEND_X + _LEGEND_WIDTH, y), curve.overall, 13, anchor="end", bold=rank == 0)
    if plot.rest:
        yield Label((_LEGEND_X + 18, top + 12 + 22 * len(plot.curves)), plot.rest, 13, "muted")


def _caption(prediction: Prediction) -> Iterator[str]:
    windows = prediction.windows
    if prediction.padded:
        yield "The movie is shorter than the model's window, the rest of which is padded with zeros."
    elif len(windows) == 1:
        yield "The whole movie is one window, so there is one value for all of it."
    else:
        length, step = windows[0].end - windows[0].start, windows[1].start - windows[0].start
        yield (
            f"Each moment shows the window centred on it: {length:g} s long, one every {step:g} s. "
            "Dashed: the first and last window stand in where no centre lies."
        )
        yield "The figures beside the plot are for the whole movie: the mean over its windows."
    yield f"Model: {_model_name(prediction.bundle)}, on {prediction.device}; video read by {prediction.video_decoder}."


def _model_name(bundle: str) -> str:
    with contextlib.suppress(BundleError, OSError):  # neither of the two need be there any more
        if sample_bundle().samefile(bundle):
            return "the sample bundle"
    return printable(Path(bundle).resolve().name)


def _readout(prediction: Prediction, plots: Sequence[_Plot], duration: float) -> Readout:
    return Readout(
        x=_PLOT_X,
        width=_PLOT_WIDTH,
        top=_STRIP_Y,
        bottom=_tops(len(plots) + 1)[-1] - _HEADING - _GAP,
        duration=duration,
        windows=[(window.start, window.end) for window in prediction.windows],
        centres=_centres(prediction),
        plots=[
            ReadoutPlot(
                plot.heading,
                top,
                _PLOT_HEIGHT,
                plot.ticks[0][0],
                plot.ticks[-1][0],
                [ReadoutLine(curve.label, f"line{i}", curve.values) for i, curve in enumerate(plot.curves)],
                percent=plot.ticks[-1][1].endswith("%"),
            )
            for top, plot in zip(_tops(len(plots)), plots, strict=True)
        ],
    )


def _tops(n_plots: int) -> list[int]:
    """The y of each plot's upper edge."""
    first = _STRIP_Y + _STRIP_HEIGHT + _HEADING
    return [first + i * (_PLOT_HEIGHT + _HEADING + _GAP) for i in range(n_plots)]


def _centres(prediction: Prediction) -> list[float]:
    return [(window.start + window.end) / 2 for window in prediction.windows]


def _x(seconds: float, duration: float) -> float:
    return _PLOT_X + _PLOT_WIDTH * seconds / duration


def _y(value: float, plot: _Plot, top: int) -> float:
    low, high = plot.ticks[0][0], plot.ticks[-1][0]
    return top + _PLOT_HEIGHT * (high - value) / (high - low)


def _time_ticks(duration: float) -> list[float]:
    step = next((step for step in _TIME_STEPS if duration / step <= _MOST_TIME_TICKS), _TIME_STEPS[-1])
    return [float(i * step) for i in range(int(duration / step) + 1)]


def _text_width(text: str, size: float) -> float:
    """A generous estimate, since the fonts of an HTML page's reader are not known."""
    return size * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.62 for c in text)


def _fit(text: str, width: float, size: float) -> str:
    """Shortens text to the given width, in its middle, since names often differ at their end."""
    keep = len(text)
    shortened = text
    while keep > 3 and _text_width(shortened, size) > width:
        keep -= 1
        shortened = f"{text[: keep - keep // 3]}...{text[-(keep // 3) :]}"
    return shortened
