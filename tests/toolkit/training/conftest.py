from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig, WindowConfig
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.tokens.files import write_tokens
from vis4mer.training.tokens.windows import TrainingMovie

TOKENS, FEATURES, WINDOW = 2, 4, 12

MakeMovies = Callable[..., list[TrainingMovie]]


@pytest.fixture
def make_movies(tmp_path: Path) -> MakeMovies:
    """Makes movies of noise in which the first feature of two frames in the middle reveals the target."""

    def make(count: int, *, seed: int, regression: bool = False, frames: int = WINDOW + 3) -> list[TrainingMovie]:
        generator = torch.Generator().manual_seed(seed)
        movies = []
        for i in range(count):
            tokens = 0.3 * torch.randn(frames, TOKENS, FEATURES, generator=generator)
            target = torch.rand((), generator=generator).item() if regression else i % 2
            tokens[frames // 2 - 1 : frames // 2 + 1, :, 0] += 4 * (2 * target - 1)
            path = tmp_path / f"tokens-{seed}-{i}.safetensors"
            movies.append(TrainingMovie(write_tokens(path, [tokens.bfloat16()], {}), target))
        return movies

    return make


@pytest.fixture
def make_model() -> Callable[..., Vis4mer]:
    def make(*, regression: bool = False, stride: float = 1.0, dropout: float = 0.1) -> Vis4mer:
        torch.manual_seed(0)
        outputs = 1 if regression else 2
        decoder = DecoderConfig(FEATURES, WINDOW * TOKENS, outputs, d_model=16, n_layers=2, d_state=8, dropout=dropout)
        head = HeadConfig(decoder, "regression" if regression else "classification")
        return Vis4mer(ModelConfig({"decoder": head}, encoder=None, windows=WindowConfig(WINDOW, stride)))

    return make
