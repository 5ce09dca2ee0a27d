import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vis4mer.config import WindowConfig
from vis4mer.runtime.windows import cut_windows


def batches(n_frames: int, sizes: list[int]) -> Iterator[NDArray[np.float32]]:
    """Yields a movie's tokens [n, 2, 3] in batches of the given sizes, repeated until the movie ends."""
    movie = np.arange(1, n_frames * 6 + 1, dtype=np.float32).reshape(n_frames, 2, 3)
    start = 0
    while start < n_frames:
        for size in sizes:
            yield movie[start : start + size]
            start += size


def naive_starts(n_frames: int, length: int, stride: int) -> list[int]:
    """Returns every stride-th start whose window fits, and the start whose window ends on the last frame."""
    fitting = {start for start in range(0, n_frames, stride) if start + length <= n_frames}
    return sorted(fitting | {max(0, n_frames - length)})


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 25), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_windows_are_those_of_the_whole_movie(n_frames: int, length: int, stride: int, sizes: list[int]) -> None:
    movie = np.arange(1, n_frames * 6 + 1, dtype=np.float32).reshape(n_frames, 2, 3)
    windows = list(cut_windows(batches(n_frames, sizes), length, stride))
    assert [window.start for window in windows] == naive_starts(n_frames, length, stride)
    for window in windows:
        part = movie[window.start : window.start + length]
        assert window.n_frames == len(part)
        np.testing.assert_array_equal(np.concatenate(window.pieces), part)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_no_frame_goes_unseen_while_windows_touch(n_frames: int, length: int, stride: int) -> None:
    windows = cut_windows(batches(n_frames, [7]), length, min(stride, length))
    seen = {frame for window in windows for frame in range(window.start, window.start + window.n_frames)}
    assert seen == set(range(n_frames))


def test_a_movie_without_frames_has_no_window() -> None:
    assert list(cut_windows(iter([]), 5, 2)) == []


def test_memory_is_that_of_one_window() -> None:
    alive = most = 0

    def released() -> None:
        nonlocal alive
        alive -= 1

    def movie() -> Iterator[NDArray[np.float32]]:
        nonlocal alive, most
        for _ in range(500):
            batch = np.zeros((4, 2, 3), np.float32)
            weakref.finalize(batch, released)
            alive += 1
            most = max(most, alive)
            yield batch
            del batch

    for _ in cut_windows(movie(), 20, 3):
        pass
    assert most <= 20 // 4 + 2, "batches older than one window are still held"


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"), [(1.0, 1.0, 1), (2.0, 1.0, 2), (0.1, 1.0, 1), (1.0, 29.97, 30), (0.5, 24.0, 12)]
)
def test_a_stride_is_the_nearest_whole_number_of_frames(seconds: float, fps: float, frames: int) -> None:
    assert WindowConfig(stride=seconds).stride_frames(fps) == frames
