"""The progress of `vis4mer run`: the frames of the current movie, and the time left for all movies."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from vis4mer.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from vis4mer.runtime.outcome import Outcome

_ALL = "all movies"


class MovieProgress:
    """Progress over movies, one or several of which are classified at a time.

    A movie's share of all work is estimated by the size of its file, since its duration is known only once it is read.
    If several movies are classified at a time, only the line for all of them is shown: it does not change with every
    short movie, and fits any terminal.

    Args:
        videos: Paths of the movies, in order.
        jobs: Number of movies that are classified at a time.
        hidden: Whether to show nothing.
    """

    def __init__(self, videos: Sequence[str], *, jobs: int, hidden: bool) -> None:
        self._names = [Path(video).name for video in videos]
        self._sizes = [_size(video) for video in videos]
        self._one_by_one = jobs == 1
        self._total, self._over, self._begun = sum(self._sizes), 0, 0  # the first two in bytes
        self._under_way: dict[int, float] = {}  # bytes that are done, by movie
        self._display = ProgressDisplay(hidden=hidden)

    def report(self, number: int, done: int, expected: int) -> None:
        """Records the frames of a movie.

        Args:
            number: Number of the movie, counted from 0.
            done: Frames that are done.
            expected: Frames of the whole movie.
        """
        # The number of frames expected is an estimate for a damaged movie, and a bar must not exceed its total.
        expected = max(done, expected)
        self._under_way[number] = self._sizes[number] * done / max(1, expected)
        self._begun = max(self._begun, number + 1)
        if len(self._sizes) > 1:
            count = f"{self._begun} of {len(self._sizes)}"
            self._display.update(_ALL, self._over + sum(self._under_way.values()), self._total, count=count)
        if self._one_by_one:
            self._display.update(self._names[number], done, expected, unit="frames")

    def shown_for(self, outcomes: "Generator[Outcome, None, None]") -> "Iterator[Outcome]":
        """Yields the outcomes, and shows the progress while the next one is waited for."""
        with closing(outcomes):
            while True:
                with self._display.shown():
                    outcome = next(outcomes, None)
                if outcome is None:
                    return
                self._end(outcome)
                yield outcome

    def _end(self, outcome: "Outcome") -> None:
        """Counts a movie that is over; one that failed no longer counts as work."""
        self._under_way.pop(outcome.number, None)
        if outcome.error is None:
            self._over += self._sizes[outcome.number]
        else:
            self._total -= self._sizes[outcome.number]
        self._display.remove(self._names[outcome.number])


def _size(video: str) -> int:
    try:
        return max(1, Path(video).stat().st_size)
    except (OSError, ValueError):  # reported when the movie is opened
        return 1
