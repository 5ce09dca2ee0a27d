"""Windows of cached tokens as training and validation items."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

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
        features: tokens [L, D] of the window's frames one after the other, in the cache's dtype.
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


class _Windows(Dataset[Window]):
    def __init__(self, movies: Sequence[Movie], length: int) -> None:
        self.movies = tuple(movies)
        self.length = length

    def _window(self, index: int, start: int) -> Window:
        movie = self.movies[index]
        features = movie.tokens.read(start, self.length).flatten(0, 1)
        return Window(features, torch.tensor(movie.target, dtype=torch.float32), index)


class RandomWindows(_Windows):
    """One random window of every movie, another one in each epoch.

    Args:
        movies: the training split.
        length: of a window, in frames.
        seed: with the epoch and the movie's index it determines the window, whichever process asks for it.
    """

    def __init__(self, movies: Sequence[Movie], length: int, seed: int) -> None:
        super().__init__(movies, length)
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, index: int) -> Window:
        starts = window_starts(self.movies[index].tokens.frames, self.length, 1)
        return self._window(index, int(np.random.default_rng((self.seed, self.epoch, index)).choice(starts)))


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
