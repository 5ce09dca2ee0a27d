"""The training of the sample's frame encoder is reproducible, and the encoder learns who is at the door."""

from pathlib import Path

import pytest
import torch

from samples.generator import encoder
from samples.generator.dataset import write_dataset
from samples.generator.film import Format
from vis4mer.config import Preprocessing

PREPROCESSING = Preprocessing(height=32, width=32)


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("movies")
    write_dataset(folder, {"train": range(4)}, Format(fps=1))
    return folder


def test_seed_determines_weights(movies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_STEPS", 3)
    first, second, other = (
        encoder.train_encoder("test_vit", PREPROCESSING, movies, range(2), seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_tokens_distinguish_the_characters_at_the_door(movies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest class centre of a frame's tokens is nearly always that of its own character."""
    monkeypatch.setattr(encoder, "_STEPS", 60)
    trained = encoder.train_encoder("test_vit", PREPROCESSING, movies, range(4), 0)
    frames, targets = encoder.read_frames(movies, range(4), PREPROCESSING)
    with torch.inference_mode():
        tokens = trained(torch.from_numpy(frames)).mean(dim=1)
    centres = {guest: tokens[targets == guest].mean(dim=0) for guest in set(targets.tolist())}
    nearest = [min(centres, key=lambda guest: float((token - centres[guest]).norm())) for token in tokens]
    assert (torch.tensor(nearest) == torch.from_numpy(targets)).float().mean() > 0.9
