"""Windows of cached tokens as the items that a head is trained, validated and tested on."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vis4mer.config import ModelConfig
from vis4mer.errors import DataError
from vis4mer.text import count
from vis4mer.training.tokens.files import TokenFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingMovie:
    """One encoded movie and its target.

    Attributes:
        token_file: Tokens of the movie's frames.
        target: Index of the label for classification, value for regression.
    """

    token_file: TokenFile
    target: float


class TrainingWindow(NamedTuple):
    """One item of the data sets below, or a batch of B items.

    Attributes:
        features: Tokens [L, D] of the window's frames or segments in order, in the cache's dtype; [B, L, D] in a batch.
        target: Target of the movie, a float32 scalar; [B] in a batch.
        movie: Index of the movie in its data set; int64 [B] in a batch.
    """

    features: Tensor
    target: Tensor
    movie: int


def movies_digest(*splits: Sequence[TrainingMovie]) -> str:
    """Returns the SHA-256 of the movies and targets of splits; the name of a token file identifies its movie."""
    facts = [
        [(movie.token_file.path.name, movie.token_file.n_frames, movie.target) for movie in movies] for movies in splits
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def check_movies(movies: Sequence[TrainingMovie], split: str, model: ModelConfig, head: str) -> None:
    """Checks that a head can take the tokens and targets of movies.

    Args:
        movies: Movies of one split.
        split: Name of the split, for the error message.
        model: Configuration of the model.
        head: Name of the head.

    Raises:
        DataError: The split is empty, or tokens or targets do not fit the model.
    """
    if not movies:
        raise DataError.of("split", split, "holds no movie")
    config = model.heads[head]
    tokens_per_frame = model.encoder.tokens if model.encoder else movies[0].token_file.tokens_per_frame
    expected = (tokens_per_frame, config.decoder.d_input)
    for movie in movies:
        file = movie.token_file
        if (file.tokens_per_frame, file.features) != expected:
            rule = (
                f"holds {file.tokens_per_frame} tokens of {file.features} features per frame, but the model takes "
                f"{expected[0]} of {expected[1]}"
            )
            raise DataError.of("tokens", file.path, rule, "use the cache of the model's encoder")
        # A range holds whole numbers only: it contains 2.0, but neither 2.5 nor -1.
        if config.task == "classification" and movie.target not in range(config.decoder.d_output):
            rule = f"must be a class index below d_output={config.decoder.d_output}"
            raise DataError.of("target", movie.target, rule, f"correct the target of {file.path}")


def warn_rounded(config: ModelConfig) -> None:
    """Logs a warning if windows or their stride are no whole number of frames, to which they are rounded."""
    fps, windows = config.preprocessing.fps, config.windows
    if windows.samples is not None:
        return
    for name, seconds, frames in (
        ("windows", windows.seconds, windows.frames(fps)),
        ("a stride", windows.stride, windows.stride_frames(fps)),
    ):
        if not math.isclose(seconds * fps, frames):
            logger.warning("%s of %g s: rounded to %s, %g s", name, seconds, count(frames, "frame"), frames / fps)


def warn_padded(movies: Sequence[TrainingMovie], config: ModelConfig) -> None:
    """Logs a warning if every window is padded, because it is longer than every movie."""
    longest, length = max(movie.token_file.n_frames for movie in movies), config.window_frames
    if longest >= length:
        return
    if config.windows.samples is not None:
        logger.warning("samples=%d: no training movie has more than %d to draw; they are repeated", length, longest)
        return
    fps = config.preprocessing.fps
    logger.warning(
        "windows of %g s are longer than every training movie, so they end with zeros; the longest movie has %g s",
        length / fps,
        longest / fps,
    )


def window_starts(n_frames: int, length: int, stride: int) -> list[int]:
    """Returns the first frame of every window of a movie, as in serving.

    The last window ends on the movie's last frame, even if the stride does not lead there. A movie shorter than a
    window has one window, which is padded.

    Args:
        n_frames: Frames of the movie.
        length: Frames of a window.
        stride: Frames from the start of one window to the start of the next.
    """
    last = max(n_frames - length, 0)
    # A range excludes its end, so the last window is not listed twice.
    return [*range(0, last, stride), last]


def even_samples(n_frames: int, count: int) -> list[int]:
    """Returns `count` ascending frame indices, spread evenly over `n_frames`; they repeat if `n_frames` is smaller."""
    return [i * n_frames // count for i in range(count)]


def random_samples(n_frames: int, count: int, generator: np.random.Generator) -> list[int]:
    """Returns `count` random ascending frame indices without repetition; `even_samples` if there are too few frames."""
    if n_frames <= count:
        return even_samples(n_frames, count)
    # The frames stay in the order of time, because the head models a sequence.
    return sorted(generator.choice(n_frames, count, replace=False).tolist())


class _Windows(Dataset[TrainingWindow]):
    def __init__(self, movies: Sequence[TrainingMovie], length: int) -> None:
        self.movies = tuple(movies)
        self.length = length

    def _span(self, movie: int, start: int) -> TrainingWindow:
        """Reads the window that begins at frame `start` of the movie with index `movie`."""
        return self._window(movie, self.movies[movie].token_file.read(start, self.length))

    def _samples(self, movie: int, frames: Sequence[int]) -> TrainingWindow:
        """Reads a window of single frames of the movie with index `movie`."""
        return self._window(movie, self.movies[movie].token_file.pick(frames))

    def _window(self, movie: int, tokens: Tensor) -> TrainingWindow:
        target = torch.tensor(self.movies[movie].target, dtype=torch.float32)
        # [T, P, D] to [T P, D]: all tokens of a frame come before those of the next.
        return TrainingWindow(tokens.flatten(0, 1), target, movie)


class RandomWindows(_Windows):
    """One random window of every movie, a different one in each epoch.

    Args:
        movies: Movies of the training split.
        length: Frames of a window.
        seed: Seed that determines each window, together with the epoch and the movie's index. The process that reads
            the window does not matter.
        scattered: Whether a window consists of random frames or segments of the whole movie, in order, instead of a
            span of it.
    """

    def __init__(self, movies: Sequence[TrainingMovie], length: int, seed: int, *, scattered: bool = False) -> None:
        super().__init__(movies, length)
        self.seed = seed
        self.scattered = scattered
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, index: int) -> TrainingWindow:
        # A generator for each item, rather than for each process, makes the window independent of the number of loader
        # workers, the order of the items and earlier epochs, so a resumed run draws the same windows.
        generator = np.random.default_rng((self.seed, self.epoch, index))
        n_frames = self.movies[index].token_file.n_frames
        if self.scattered:
            return self._samples(index, random_samples(n_frames, self.length, generator))
        # With a stride of 1 the starts are all those of full windows, or the one padded window of a short movie.
        start = generator.choice(window_starts(n_frames, self.length, stride=1))
        return self._span(index, int(start))


class AllWindows(_Windows):
    """Every window of every movie at a stride, movie by movie.

    Args:
        movies: Movies of the validation or test split.
        length: Frames of a window.
        stride: Frames from the start of one window to the start of the next.
    """

    def __init__(self, movies: Sequence[TrainingMovie], length: int, stride: int) -> None:
        super().__init__(movies, length)
        self._spans = [
            (index, start)
            for index, movie in enumerate(self.movies)
            for start in window_starts(movie.token_file.n_frames, length, stride)
        ]

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> TrainingWindow:
        movie, start = self._spans[index]
        return self._span(movie, start)


class EvenSamples(_Windows):
    """One window of every movie: frames or segments spread evenly over the whole movie.

    Args:
        movies: Movies of the validation or test split.
        length: Frames or segments of a window.
    """

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, index: int) -> TrainingWindow:
        return self._samples(index, even_samples(self.movies[index].token_file.n_frames, self.length))


def training_windows(movies: Sequence[TrainingMovie], config: ModelConfig, seed: int) -> RandomWindows:
    """Returns the windows to train a model on, cut as its configuration says."""
    return RandomWindows(movies, config.window_frames, seed, scattered=config.windows.samples is not None)


def evaluation_windows(movies: Sequence[TrainingMovie], config: ModelConfig) -> AllWindows | EvenSamples:
    """Returns the windows to validate or test a model on, cut as its configuration says."""
    if config.windows.samples is not None:
        return EvenSamples(movies, config.window_frames)
    return AllWindows(movies, config.window_frames, config.windows.stride_frames(config.preprocessing.fps))
