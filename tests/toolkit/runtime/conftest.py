"""A small random checkpoint."""

from pathlib import Path
from typing import Any

import pytest

from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model: a small Vision Transformer, a classification and a regression head."""
    torch = pytest.importorskip("torch")
    from vis4mer.models.encoder import FrameEncoder
    from vis4mer.models.vis4mer import Vis4mer

    frames = Preprocessing(fps=1.0, height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    encoder = FrameEncoder.build("test_vit", frames, weights="random", seed=0)
    tokens, features = encoder.config.tokens, encoder.config.features

    def head(d_output: int, **settings: Any) -> HeadConfig:
        return HeadConfig(DecoderConfig(features, 4 * tokens, d_output, d_model=16, n_layers=2), **settings)

    heads = {"scene": head(3, labels=("in", "out", "on")), "likes": head(1, task="regression")}
    config = ModelConfig(heads, encoder.config, frames, WindowConfig(seconds=4, stride=3))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint")
    Vis4mer(config, encoder).save_pretrained(path)
    return path
