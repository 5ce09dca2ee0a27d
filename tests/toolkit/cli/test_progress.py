import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import pytest

from vis4mer.cli.frame_progress import MovieProgress
from vis4mer.cli.progress import ProgressDisplay, progress_bars
from vis4mer.errors import VideoError
from vis4mer.runtime.outcome import Outcome

LONG_NAME = "a-holiday-in-the-mountains-with-the-whole-family-part-2.mp4"


class Screen:
    """What is written to a terminal, whose frames of bars can be looked at one by one."""

    def __init__(self) -> None:
        self._reader, writer = pty.openpty()
        self.stream = os.fdopen(writer, "w")
        self._written = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._reader, 4096):
                self._written += chunk
        except OSError:
            pass  # the writer is closed

    def lines(self) -> list[str]:
        self.stream.close()
        self._thread.join()
        os.close(self._reader)
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._written.decode())
        return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture
def stderr_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Screen]:
    """Makes a terminal of so many columns the standard error; pytest would undo that before the test began."""
    monkeypatch.setenv("TERM", "xterm")

    def install(columns: int) -> Screen:
        monkeypatch.setenv("COLUMNS", str(columns))
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen.stream)
        return screen

    return install


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_a_long_name_is_shortened_before_bar_and_time_left_vanish(
    stderr_on: Callable[[int], Screen], columns: int
) -> None:
    screen = stderr_on(columns)
    display = ProgressDisplay()
    with display.shown():
        for done in (0, 100, 200, 300):
            display.update(LONG_NAME, done, 7200, unit="frames")
            time.sleep(0.15)
    last = screen.lines()[-1]
    assert last.startswith("a-ho")
    assert "…" in last
    assert "━" * 8 in last
    assert "300/7200" in last
    assert last.rstrip().endswith("left")
    assert len(last) <= columns


def test_a_finished_bar_vanishes(stderr_on: Callable[[int], Screen]) -> None:
    screen = stderr_on(80)
    with progress_bars() as progress:
        progress("encoding", 1, 2)
        time.sleep(0.15)
        progress("encoding", 2, 2)
        progress("training", 1, 4)
        time.sleep(0.3)
    shown = screen.lines()
    assert any("encoding" in line for line in shown)
    assert "training" in shown[-1]
    assert "encoding" not in "".join(shown[-2:])


def movies_of(folder: Path, sizes: dict[str, int], jobs: int = 1) -> MovieProgress:
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(size))
    return MovieProgress([str(folder / name) for name in sizes], jobs=jobs, hidden=False)


def classify(
    movies: MovieProgress, steps: Sequence[tuple[int, int]], pause: float, errors: Mapping[int, Exception] | None = None
) -> Generator[Outcome, None, None]:
    """Stands for a classifier whose movies have ten frames each.

    Args:
        movies: Progress to report to.
        steps: Movies and the numbers of their frames that are done; a movie is over after its last step.
        pause: Seconds after each step.
        errors: Errors of the movies that fail.
    """
    for place, (number, done) in enumerate(steps):
        movies.report(number, done, 10)
        time.sleep(pause)
        if all(later != number for later, _ in steps[place + 1 :]):
            yield Outcome(number, "", error=(errors or {}).get(number))


def test_the_time_left_is_that_of_all_movies_by_the_sizes_of_their_files(
    stderr_on: Callable[[int], Screen], tmp_path: Path
) -> None:
    screen = stderr_on(80)
    movies = movies_of(tmp_path, {"small.mp4": 1000, "large.mp4": 9000})
    steps = [*((0, done) for done in range(11)), *((1, 0) for _ in range(6))]
    assert len(list(movies.shown_for(classify(movies, steps, 0.05)))) == 2
    lines = [line for line in screen.lines() if line.startswith("all movies")]
    # The first tenth of all bytes took half a second, so nine times as long is left.
    assert "2 of 2" in lines[-1]
    assert re.search(r"0:0[3-7] left", lines[-1])


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vis4mer.cli.progress._LINE_SECONDS", 0.1)


@pytest.mark.usefixtures("often")
def test_without_a_terminal_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        progress("encoding", 0, 10)
        progress("encoding", 1, 10)
        time.sleep(0.15)
        progress("encoding", 4, 10)
        time.sleep(0.15)
        progress("encoding", 10, 10)
        time.sleep(0.25)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("vis4mer: progress: encoding: 1 of 10")
    assert re.fullmatch(r"vis4mer: progress: encoding: 4 of 10, \d:\d\d left", lines[1])
    assert len(lines) <= 3, "a finished task is no longer reported"


@pytest.mark.usefixtures("often")
def test_a_line_for_several_movies_states_the_time_left_for_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    movies = movies_of(tmp_path, {"a.mp4": 100, "b.mp4": 100})
    list(movies.shown_for(classify(movies, [(0, 0), (0, 3), (0, 6), (0, 9)], 0.06)))
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"vis4mer: progress: all movies: 1 of 2, 0:0\d left; a.mp4: \d of 10, [0-9.]+ frames/s, 0:0\d left", line
    )


@pytest.mark.usefixtures("often")
def test_hidden_progress_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars(hidden=True) as progress:
        progress("encoding", 1, 10)
        time.sleep(0.25)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("often")
def test_a_movie_that_fails_no_longer_counts_as_work(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    movies = movies_of(tmp_path, {"broken.mp4": 10_000, "good.mp4": 100})
    steps = [(0, 0), *((1, done) for done in range(0, 9, 2))]
    list(movies.shown_for(classify(movies, steps, 0.05, {0: VideoError("unreadable")})))
    line = capsys.readouterr().err.splitlines()[-1]
    assert "all movies: 2 of 2, 0:0" in line, "the time left is that of a hundred bytes"


@pytest.mark.usefixtures("often")
def test_a_line_appears_in_time_although_every_movie_is_short(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    movies = movies_of(tmp_path, {f"{number}.mp4": 100 for number in range(12)})
    start = time.monotonic()
    list(movies.shown_for(classify(movies, [(number, 5) for number in range(12)], 0.04)))
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= (time.monotonic() - start) / 0.1 + 1


@pytest.mark.usefixtures("often")
def test_several_movies_at_a_time_have_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    movies = movies_of(tmp_path, dict.fromkeys(("a.mp4", "b.mp4", "c.mp4"), 100), jobs=2)
    steps = [(0, 0), (1, 0), (0, 2), (1, 2), (0, 4), (1, 8), (2, 0), (0, 6)]
    list(movies.shown_for(classify(movies, steps, 0.05)))
    lines = capsys.readouterr().err.splitlines()
    # The time left is unknown at first.
    assert all(re.fullmatch(r"vis4mer: progress: all movies: [123] of 3(, 0:0\d left)?", line) for line in lines)
    assert any("left" in line for line in lines)
    assert "3 of 3" in lines[-1]


@pytest.mark.parametrize("columns", [80, 40, 30])
def test_the_line_of_several_movies_fits_the_terminal(
    stderr_on: Callable[[int], Screen], tmp_path: Path, columns: int
) -> None:
    screen = stderr_on(columns)
    movies = movies_of(tmp_path, dict.fromkeys((LONG_NAME, "b.mp4", "c.mp4"), 100), jobs=3)
    steps = [(number, done) for done in range(1, 6) for number in range(3)]
    list(movies.shown_for(classify(movies, steps, 0.05)))
    lines = screen.lines()
    assert all(line.startswith("all") and len(line) <= columns for line in lines)
    assert "3 of 3" in lines[-1]
    assert lines[-1].rstrip().endswith("left")
