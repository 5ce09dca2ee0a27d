"""A new model for a data set: the head that fits its labels and the encoder's tokens."""

import torch

from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.listing import Listing


def build_model(
    listing: Listing,
    encoder: FrameEncoder,
    preprocessing: Preprocessing,
    windows: WindowConfig,
    *,
    head: str,
    d_model: int,
    n_layers: int,
    d_state: int = 64,
    dropout: float = 0.2,
    seed: int = 0,
) -> Vis4mer:
    """Builds a model with one new head over a trained encoder.

    Args:
        listing: decides the head's task and labels.
        encoder: computes the tokens, and is saved with the model.
        preprocessing: of the encoder's frames.
        windows: the span that is classified at once.
        head: name of the head.
        d_model: see `DecoderConfig`, as the following.
        n_layers: see there.
        d_state: see there.
        dropout: see there.
        seed: of the head's initial weights.

    Raises:
        ConfigError: a size breaks its rule.
    """
    frames = windows.frames(preprocessing.fps)
    decoder = DecoderConfig(
        d_input=encoder.config.features,
        l_max=frames * encoder.config.tokens,
        d_output=len(listing.labels) if listing.task == "classification" else 1,
        d_model=d_model,
        n_layers=n_layers,
        d_state=d_state,
        dropout=dropout,
    )
    heads = {head: HeadConfig(decoder, listing.task, listing.labels)}
    config = ModelConfig(heads, encoder.config, preprocessing, windows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vis4mer(config, encoder)
