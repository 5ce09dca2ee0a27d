"""Accuracy of a classifier on generated movies, shown whole or in part."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.progress import progress
from samples.generator.film import Format, Span, write
from samples.generator.story import Story
from vis4mer import Classifier

Excerpt = Callable[[Story], tuple[Span, ...]]
"""Returns the spans of a story that are shown, in the order they are shown; no span means the whole story."""


@dataclass(frozen=True)
class Accuracy:
    """Correct labels among independent movies.

    Attributes:
        right: Number of movies with the correct label.
        movies: Number of movies.
    """

    right: int
    movies: int

    @property
    def share(self) -> float:
        """Share of movies with the correct label, in [0, 1]."""
        return self.right / self.movies

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Returns Wilson's confidence interval of the share.

        Args:
            z: Quantile of the normal distribution; 1.96 gives the 95 % interval.

        Reference: Wilson, Probable inference, the law of succession, and statistical inference (JASA 1927).
        """
        n, p = self.movies, self.share
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half


def measure_accuracy(classifier: Classifier, seeds: range, form: Format, excerpt: Excerpt) -> Accuracy:
    """Renders the story of every seed to a movie file and classifies the file.

    Args:
        classifier: Classifier whose first head has the stories' labels.
        seeds: Seeds of the stories.
        form: Format of the movie files.
        excerpt: Part of each story that is shown.
    """
    right = movies = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "movie.mp4")
        for seed in progress(seeds, lambda seed: f"movie {seed}"):
            story = Story.from_seed(seed)
            write(story, path, form, *excerpt(story))
            right += classifier(path).label == story.label
            movies += 1
    return Accuracy(right, movies)
