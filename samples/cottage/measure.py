"""How often a classifier is right about movies that it has not seen, whole or in part."""

import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cottage.film import Format, Span, write
from cottage.story import Story
from vis4mer import Classifier

Excerpt = Callable[[Story], tuple[Span, ...]]
"""From a story to the parts that are shown of it, one after the other; none means all of it."""


@dataclass(frozen=True)
class Accuracy:
    """Right answers among independent movies.

    Attributes:
        right: number of them.
        movies: number asked about.
    """

    right: int
    movies: int

    @property
    def share(self) -> float:
        """Of right answers, in [0, 1]."""
        return self.right / self.movies

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Returns the confidence interval of the share, of 95 % by default.

        Reference: Wilson, Probable inference, the law of succession, and statistical inference (JASA 1927).
        """
        n, p = self.movies, self.share
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half


def measure(classifier: Classifier, seeds: Iterable[int], form: Format, excerpt: Excerpt) -> Accuracy:
    """Films the stories of `seeds` one after the other and classifies each movie file.

    Args:
        classifier: to be measured; its first head's labels are the stories'.
        seeds: of the stories.
        form: how they are filmed.
        excerpt: what is shown of each.
    """
    right = movies = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "movie.mp4")
        for seed in seeds:
            story = Story.from_seed(seed)
            write(story, path, form, *excerpt(story))
            right += classifier(path).label == story.label
            movies += 1
    return Accuracy(right, movies)
