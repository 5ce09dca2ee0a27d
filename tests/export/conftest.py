import dataclasses
from pathlib import Path

import pytest
import torch

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.models.vis4mer import Vis4mer


def small_config() -> ModelConfig:
    """Two heads; the blocks of the first have odd lengths (85, 42, 21)."""
    decoder = DecoderConfig(d_input=64, l_max=119, d_output=3, d_model=16, n_layers=3, d_state=8)
    return ModelConfig(
        heads={
            "scene": HeadConfig(decoder, labels=("a", "b", "c")),
            "likes": HeadConfig(DecoderConfig(64, 119, 1, 32, 1, d_state=8), "regression"),
        },
        encoder=EncoderConfig("test_vit", 17, 64),
        preprocessing=Preprocessing(height=64, width=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        windows=WindowConfig(seconds=5.0),
    )


def save(path: Path, heads: tuple[str, ...], encoder_seed: int = 0) -> Path:
    """A random checkpoint with some of the heads; the encoder follows from its seed."""
    config = small_config()
    config = dataclasses.replace(config, heads={name: config.heads[name] for name in heads})
    torch.manual_seed(encoder_seed)
    model = Vis4mer(config)
    torch.manual_seed(len(heads[0]))
    for name in heads:
        model.heads[name] = type(model.head(name))(config.heads[name].decoder)
        # Random decoders hardly tell inputs apart, which would leave the label to rounding.
        model.head(name).output.weight.data *= 10
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "both", ("scene", "likes"))


@pytest.fixture(scope="session")
def movie() -> Path:
    return Path(__file__).parents[2] / "samples" / "movie.mp4"
