from pathlib import Path

import pytest
import torch

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.models.vis4mer import Vis4mer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model with two heads of odd block lengths (85, 42, 21)."""
    torch.manual_seed(0)
    decoder = DecoderConfig(d_input=64, l_max=100, d_output=3, d_model=16, n_layers=3, d_state=8)
    config = ModelConfig(
        heads={
            "scene": HeadConfig(decoder, labels=("a", "b", "c")),
            "likes": HeadConfig(DecoderConfig(64, 85, 1, 32, 1), "regression"),
        },
        encoder=EncoderConfig("test_vit", 17, 64),
        preprocessing=Preprocessing(height=64, width=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        windows=WindowConfig(seconds=5.0),
    )
    path = tmp_path_factory.mktemp("checkpoint") / "small"
    Vis4mer(config).save_pretrained(path)
    return path
