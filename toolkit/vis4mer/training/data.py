"""Windows of cached tokens as training, validation and test items."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vis4mer.config import ModelConfig
from vis4mer.training.tokens import TokenFile


@dataclass(frozen=True)
class Movie:
    """One movie ready to be learned from.

    Attributes:
        tokens: of its frames.
        target: index of the label for classification, the value for regression.
    """

    tokens: TokenFile
    target: float


class Window(NamedTuple):
    """One item of the data sets below, or, batched, B of them.

    Attributes:
        features: tokens [L, D] of the window's frames or segments one after the other, in the cache's dtype.
        target: of the movie, a float32 scalar.
        movie: index of the movie in its data set.
    """

    features: Tensor
    target: Tensor
    movie: int


def window_starts(frames: int, length: int, stride: int) -> list[int]:
    """Returns the first frame of every window of a movie, as in serving.

    The last window ends on the movie's last frame, whether or not the stride leads there; a movie shorter than a
    window has one, which is padded.

    Args:
        frames: of the movie.
        length: of a window, in frames.
        stride: from one window's start to the next one's, in frames.
    """
    last = max(frames - length, 0)
    return [*range(0, last, stride), last]


def even_samples(frames: int, count: int) -> list[int]:
    """Returns `count` ascending numbers below `frames`, evenly spread; with repetitions where there are fewer."""
    return [i * frames // count for i in range(count)]


def random_samples(frames: int, count: int, generator: np.random.Generator) -> list[int]:
    """Returns `count` ascending numbers below `frames`, drawn without repetition; as `even_samples` if not enough."""
    if frames <= count:
        return even_samples(frames, count)
    return sorted(generator.choice(frames, count, replace=False).tolist())


class _Windows(Dataset[Window]):
    def __init__(self, movies: Sequence[Movie], length: int) -> None:
        self.movies = tuple(movies)
        self.length = length

    def _window(self, index: int, start: int) -> Window:
        return self._item(index, self.movies[index].tokens.read(start, self.length))

    def _item(self, index: int, tokens: Tensor) -> Window:
        return Window(tokens.flatten(0, 1), torch.tensor(self.movies[index].target, dtype=torch.float32), index)


class RandomWindows(_Windows):
    """One random window of every movie, another one in each epoch.

    Args:
        movies: the training split.
        length: of a window, in frames.
        seed: with the epoch and the movie's index it determines the window, whichever process asks for it.
        scattered: a window is not a span, but random frames or segments of the whole movie, in order.
    """

    def __init__(self, movies: Sequence[Movie], length: int, seed: int, *, scattered: bool = False) -> None:
        super().__init__(movies, length)
        self.seed = seed
        self.scattered = scattered
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, index: int) -> Window:
        generator, tokens = np.random.default_rng((self.seed, self.epoch, index)), self.movies[index].tokens
        if self.scattered:
            return self._item(index, tokens.pick(random_samples(tokens.frames, self.length, generator)))
        return self._window(index, int(generator.choice(window_starts(tokens.frames, self.length, 1))))


class AllWindows(_Windows):
    """Every window of every movie at a stride, movie after movie.

    Args:
        movies: the validation or test split.
        length: of a window, in frames.
        stride: from one window's start to the next one's, in frames.
    """

    def __init__(self, movies: Sequence[Movie], length: int, stride: int) -> None:
        super().__init__(movies, length)
        self._places = [
            (index, start)
            for index, movie in enumerate(self.movies)
            for start in window_starts(movie.tokens.frames, length, stride)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Window:
        return self._window(*self._places[index])


class EvenSamples(_Windows):
    """One window of every movie: frames or segments spread evenly over the whole of it.

    Args:
        movies: the validation or test split.
        length: of a window, in frames or segments.
    """

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, index: int) -> Window:
        tokens = self.movies[index].tokens
        return self._item(index, tokens.pick(even_samples(tokens.frames, self.length)))


def training_windows(movies: Sequence[Movie], config: ModelConfig, seed: int) -> RandomWindows:
    """Returns the windows that a model learns from, as its configuration cuts them."""
    return RandomWindows(movies, config.window_frames, seed, scattered=config.windows.samples is not None)


def evaluation_windows(movies: Sequence[Movie], config: ModelConfig) -> AllWindows | EvenSamples:
    """Returns the windows on which a model is validated and tested, as its configuration cuts them."""
    if config.windows.samples is not None:
        return EvenSamples(movies, config.window_frames)
    return AllWindows(movies, config.window_frames, config.windows.stride_frames(config.preprocessing.fps))
