from pathlib import Path

import numpy as np
import pytest
import torch

from vis4mer.runtime.windows import cut_windows
from vis4mer.training.data import AllWindows, Movie, RandomWindows, window_starts
from vis4mer.training.tokens import write_tokens


def numbered_movie(folder: Path, frames: int, target: float = 0) -> Movie:
    """A movie whose every token holds its frame's number, counted from 1."""
    tokens = torch.arange(1.0, frames + 1)[:, None, None].expand(frames, 2, 3)
    return Movie(write_tokens(folder / f"{frames}.safetensors", [tokens], {}), target)


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 9, 10, 23])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_windows_are_those_of_serving(frames: int, stride: int) -> None:
    served = cut_windows([np.zeros((frames, 1, 1), np.float32)], 5, stride)
    assert window_starts(frames, 5, stride) == [window.start for window in served]


def test_all_windows_of_all_movies(tmp_path: Path) -> None:
    windows = AllWindows([numbered_movie(tmp_path, 8, 1), numbered_movie(tmp_path, 3, 0)], length=5, stride=2)
    items = [windows[i] for i in range(len(windows))]
    assert [item.movie for item in items] == [0, 0, 0, 1]
    assert [item.target.item() for item in items] == [1, 1, 1, 0]
    assert [item.features[:, 0].tolist()[::2] for item in items] == [
        [1, 2, 3, 4, 5],
        [3, 4, 5, 6, 7],
        [4, 5, 6, 7, 8],
        [1, 2, 3, 0, 0],
    ]
    assert items[0].features.shape == (5 * 2, 3)


def test_each_epoch_draws_each_movie_once_from_anywhere(tmp_path: Path) -> None:
    windows = RandomWindows([numbered_movie(tmp_path, 8), numbered_movie(tmp_path, 5)], length=5, seed=3)
    assert len(windows) == 2
    seen = set()
    for epoch in range(60):
        windows.epoch = epoch
        start = windows[0].features[0, 0].item()
        assert start == windows[0].features[0, 0].item()
        seen.add(start)
        assert windows[1].features[0, 0].item() == 1
    assert seen == {1, 2, 3, 4}


def test_the_seed_changes_the_windows(tmp_path: Path) -> None:
    movies = [numbered_movie(tmp_path, 500)]
    starts = {RandomWindows(movies, 5, seed)[0].features[0, 0].item() for seed in range(8)}
    assert len(starts) > 1
