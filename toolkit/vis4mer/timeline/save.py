"""Saves the timeline of a prediction: probabilities over the movie's time, with thumbnails."""

import os
from pathlib import Path

from vis4mer.errors import ConfigError
from vis4mer.files import write_atomically
from vis4mer.runtime.prediction import Prediction
from vis4mer.text import printable
from vis4mer.timeline.fonts import text_width
from vis4mer.timeline.html import to_html
from vis4mer.timeline.layout import Layout
from vis4mer.timeline.page import MEDIUM, NARROW, WIDE
from vis4mer.timeline.png import to_png
from vis4mer.timeline.readout import readout
from vis4mer.timeline.thumbnails import read_thumbnails
from vis4mer.timeline.typesetting import estimated_width
from vis4mer.video.movie import Movie, scan


def save_timeline(prediction: Prediction, path: str | os.PathLike[str], movie: Movie | None = None) -> None:
    """Draws the timeline of a prediction as a PNG or as one self-contained HTML page.

    Args:
        prediction: Prediction for a movie whose file is still there; its thumbnails are read from it.
        path: File to write, which ends in ``.png`` or ``.html``; an existing file is replaced.
        movie: The movie, if it has been scanned already; by default the file is scanned again.

    Raises:
        ConfigError: The path has another suffix.
        VideoError: The movie can no longer be read.
        Vis4merError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".html"):
        raise ConfigError.of("timeline", os.fspath(path), "must end in .png or .html")
    measure = text_width if suffix == ".png" else estimated_width
    pages = (WIDE,) if suffix == ".png" else (NARROW, MEDIUM, WIDE)
    layouts = [Layout.of(prediction, page, measure) for page in pages]
    widest = layouts[-1]
    movie = movie or scan(prediction.video)
    thumbnails = read_thumbnails(movie, widest.duration, widest.plot_width, widest.page.strip_height)
    drawings = [layout.draw(thumbnails) for layout in layouts]
    if suffix == ".png":
        write_atomically(path, to_png(drawings[0]))
    else:
        write_atomically(path, to_html(drawings, printable(Path(prediction.video).name), readout(layouts)).encode())
