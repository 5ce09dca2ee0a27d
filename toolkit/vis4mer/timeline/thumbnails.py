"""Thumbnails of a movie, in a strip."""

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.timeline.strip import slots
from vis4mer.video.movie import Movie
from vis4mer.video.reader import open_video

_PIXELS_PER_UNIT = 2  # sharp on a dense screen


def read_thumbnails(movie: Movie, duration: float, width: float, height: float) -> NDArray[np.uint8]:
    """Reads as many thumbnails as fill a strip, each from the middle of its part of the movie.

    Args:
        movie: The movie.
        duration: Time that the strip spans, in seconds.
        width: Width of the strip, in CSS pixels.
        height: Height of the strip, in CSS pixels.

    Returns:
        Pictures uint8 ``[N, H, W, 3]``, RGB, with two pixels per CSS pixel. Their shape is close to the movie's own;
        the excess is cropped.

    Raises:
        VideoError: The movie can no longer be read.
    """
    count = slots(width, height, movie.info.width / movie.info.height)
    preprocessing = Preprocessing(
        height=round(height * _PIXELS_PER_UNIT),
        width=round(width * _PIXELS_PER_UNIT / count),
        resize="crop",
    )
    times = [(i + 0.5) / count * duration for i in range(count)]
    with open_video(movie, preprocessing, video_decoder="pyav", times=times) as reader:
        return np.concatenate([on_host(batch.frames) for batch in reader])
