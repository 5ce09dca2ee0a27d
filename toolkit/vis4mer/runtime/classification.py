"""One movie on its way from frames to windows, with all that its prediction is made of."""

import os
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import Array
from vis4mer.runtime.aggregation import MovieAggregator
from vis4mer.runtime.footage import Footage
from vis4mer.runtime.windows import Window, WindowCutter
from vis4mer.video.frames import FrameBatch, VideoReader
from vis4mer.video.movie import Movie

Video = str | os.PathLike[str] | Movie


@dataclass(eq=False)
class Classification:
    """The state of one movie.

    The thread that reads the movie opens it and looks at its frames, before it passes them on. Everything else belongs
    to the thread that takes the tokens.

    Attributes:
        number: Position among the movies, counted from 0.
        video: Path, or scanned movie.
        cutter: Cuts the tokens into windows.
        waiting: Windows that no head has seen yet; those of other movies too, if movies share batches.
        footage: What the frames show.
        encoded: Number of frames encoded.
        over: Whether the movie is done or has failed.
        error: What it failed with.
        reader: Reader, once `open` has been called.
        aggregator: Predictions for the windows, once `open` has been called.
    """

    number: int
    video: Video
    cutter: WindowCutter
    waiting: "deque[WaitingWindow]"
    footage: Footage = field(default_factory=Footage)
    encoded: int = 0
    over: bool = False
    error: Exception | None = None
    reader: VideoReader = field(init=False)
    aggregator: MovieAggregator = field(init=False)

    @property
    def path(self) -> str:
        """Path of the movie."""
        return self.video.path if isinstance(self.video, Movie) else str(self.video)

    def open(self, reader: VideoReader, model: ModelConfig) -> None:
        """Prepares the movie for the frames of `reader`."""
        self.aggregator = MovieAggregator(model, duration=reader.info.duration)
        self.reader = reader

    def look_at(self, batch: FrameBatch) -> "Step":
        """Records what frames show, and returns the step that passes them on."""
        self.footage.add(batch.frames)
        return Step(self, batch.frames)

    def fail(self, error: Exception) -> None:
        """Ends the movie with an error, unless it is over, and stops reading it."""
        if not self.over:
            self.error, self.over = error, True
            self.close()

    def close(self) -> None:
        """Makes the thread that reads the movie end soon."""
        if hasattr(self, "reader"):  # a movie that cannot be opened has none
            self.reader.close()


class WaitingWindow(NamedTuple):
    """A window and the movie that it belongs to."""

    movie: Classification
    window: Window


class Step(NamedTuple):
    """What happens next in a movie: it is open, has further frames, or ends.

    Attributes:
        movie: The movie.
        array: Its next frames, or their tokens; None if it has just been opened, or ends.
        ends: Whether this is the movie's last step.
        error: What the movie fails with, in its last step.
    """

    movie: Classification
    array: Array | None = None
    ends: bool = False
    error: Exception | None = None
