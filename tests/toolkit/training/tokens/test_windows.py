from pathlib import Path

import numpy as np
import pytest
import torch

from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig, WindowConfig
from vis4mer.runtime.windows import cut_windows
from vis4mer.training.tokens.files import write_tokens
from vis4mer.training.tokens.windows import (
    AllWindows,
    RandomWindows,
    TrainingMovie,
    TrainingWindow,
    evaluation_windows,
    training_windows,
    window_starts,
)


def numbered_movie(folder: Path, frames: int, target: float = 0) -> TrainingMovie:
    """Writes a movie in which all tokens of a frame hold its number, counted from 1."""
    tokens = torch.arange(1.0, frames + 1)[:, None, None].expand(frames, 2, 3)
    return TrainingMovie(write_tokens(folder / f"{frames}.safetensors", [tokens], {}), target)


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 9, 10, 23])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_windows_start_where_serving_starts_them(frames: int, stride: int) -> None:
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


def test_each_epoch_draws_one_window_from_anywhere_in_each_movie(tmp_path: Path) -> None:
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


def numbers(window: TrainingWindow) -> list[int]:
    return window.features[::2, 0].int().tolist()


def test_scattered_windows_are_random_frames_of_the_whole_movie_in_order(tmp_path: Path) -> None:
    movies = [numbered_movie(tmp_path, 40, 1), numbered_movie(tmp_path, 5), numbered_movie(tmp_path, 3)]
    windows = training_windows(movies, sampling_config(5), seed=3)
    seen, draws = set(), set()
    for epoch in range(60):
        windows.epoch = epoch
        drawn = numbers(windows[0])
        assert drawn == sorted(set(drawn)) == numbers(windows[0])
        assert len(drawn) == 5
        seen |= set(drawn)
        draws.add(tuple(drawn))
        assert numbers(windows[1]) == [1, 2, 3, 4, 5]
        assert numbers(windows[2]) == [1, 1, 2, 2, 3]
    assert seen == set(range(1, 41))
    assert len(draws) > 50
    assert windows[0].features.shape == (5 * 2, 3)


def test_evaluation_takes_even_samples_of_each_movie(tmp_path: Path) -> None:
    movies = [numbered_movie(tmp_path, 23, 1), numbered_movie(tmp_path, 5), numbered_movie(tmp_path, 3)]
    windows = evaluation_windows(movies, sampling_config(5))
    assert [numbers(windows[i]) for i in range(len(windows))] == [[1, 5, 10, 14, 19], [1, 2, 3, 4, 5], [1, 1, 2, 2, 3]]
    assert [(windows[i].movie, windows[i].target.item()) for i in range(3)] == [(0, 1), (1, 0), (2, 0)]


def sampling_config(samples: int) -> ModelConfig:
    decoder = DecoderConfig(3, samples * 2, 2, d_model=4, n_layers=1)
    return ModelConfig({"decoder": HeadConfig(decoder)}, encoder=None, windows=WindowConfig(samples=samples))
