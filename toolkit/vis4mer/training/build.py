"""A new model for a data set: one head that fits the data set's labels and the encoder's tokens."""

import torch

from vis4mer.config import HeadConfig, ModelConfig
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.listing import Listing
from vis4mer.training.settings import TrainSettings


def build_model(settings: TrainSettings, listing: Listing) -> Vis4mer:
    """Builds a model with the settings' encoder and one new head.

    Args:
        settings: Encoder, frames, windows, and name and sizes of the head; their seed draws the head's initial weights.
        listing: Data set, which decides the head's task and labels.

    Raises:
        ConfigError: A size breaks its rule.
        CheckpointError: The encoder's weights cannot be read, or do not fit.
    """
    preprocessing, windows, seed = settings.preprocessing, settings.windows, settings.training.seed
    encoder = FrameEncoder.build(settings.encoder.name, preprocessing, settings.encoder.weights, seed)
    decoder = settings.head.decoder_config(
        d_input=encoder.config.features,
        l_max=windows.frames(preprocessing.fps) * encoder.config.tokens,
        d_output=len(listing.labels) if listing.task == "classification" else 1,
    )
    heads = {settings.head.name: HeadConfig(decoder, listing.task, listing.labels)}
    config = ModelConfig(heads, encoder.config, preprocessing, windows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vis4mer(config, encoder)
