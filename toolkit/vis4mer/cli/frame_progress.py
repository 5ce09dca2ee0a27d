"""The progress of `vis4mer run`: the frames of the current movie, and the time left for all movies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vis4mer.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from vis4mer.video.reader import FrameProgress

_ALL = "all movies"


class MovieProgress:
    """Progress over movies that are classified one after the other.

    A movie's share of all work is estimated by the size of its file, since its duration is known only once it is read.

    Args:
        videos: Paths of the movies, in order.
        hidden: Whether to show nothing.
    """

    def __init__(self, videos: Sequence[str], *, hidden: bool) -> None:
        self._videos = videos
        self._sizes = [_size(video) for video in videos]
        self._total, self._done = sum(self._sizes), 0  # bytes
        self._display = ProgressDisplay(hidden=hidden)

    @contextmanager
    def movie(self, number: int) -> Iterator["FrameProgress"]:
        """Shows the progress of a movie until the block ends.

        Args:
            number: Number of the movie, counted from 1.

        Yields:
            The callable that reports the movie's frames. If the block raises, the movie no longer counts as work.
        """
        name, size = Path(self._videos[number - 1]).name, self._sizes[number - 1]

        def report(done: int, expected: int) -> None:
            # The number of frames expected is an estimate for a damaged movie, and a bar must not exceed its total.
            expected = max(done, expected)
            self._report_all(number, size * done / max(1, expected))
            self._display.update(name, done, expected, unit="frames")

        self._report_all(number, 0)
        self._display.update(name, 0, None, unit="frames")
        try:
            with self._display.shown():
                yield report
        except Exception:
            self._total -= size
            raise
        else:
            self._done += size
        finally:
            self._display.remove(name)

    def _report_all(self, number: int, done: float) -> None:
        if len(self._videos) > 1:
            count = f"{number} of {len(self._videos)}"
            self._display.update(_ALL, self._done + done, self._total, count=count)


def _size(video: str) -> int:
    try:
        return max(1, Path(video).stat().st_size)
    except (OSError, ValueError):  # reported when the movie is opened
        return 1
