"""The model to train: the configuration that settings and data set amount to, and the model itself."""

import torch

from vis4mer.config import HeadConfig, ModelConfig
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.data.listing import Listing
from vis4mer.training.settings import TrainSettings


def model_config(settings: TrainSettings, listing: Listing) -> ModelConfig:
    """Returns the configuration of a model with the settings' encoder and one head; no weights are needed for it.

    Args:
        settings: Encoder, frames, windows, and name and sizes of the head.
        listing: Data set, which decides the head's task and labels.

    Raises:
        ConfigError: A size breaks its rule, or the encoder is unknown.
    """
    preprocessing, windows = settings.preprocessing, settings.windows
    encoder = FrameEncoder.configure(settings.encoder.name, preprocessing)
    # The kernels are generated at the length of a full window, all tokens of all its frames.
    decoder = settings.head.decoder_config(
        d_input=encoder.features,
        l_max=windows.frames(preprocessing.fps) * encoder.tokens,
        d_output=len(listing.labels) if listing.task == "classification" else 1,
    )
    heads = {settings.head.name: HeadConfig(decoder, listing.task, listing.labels)}
    return ModelConfig(heads, encoder, preprocessing, windows)


def build_model(settings: TrainSettings, config: ModelConfig) -> Vis4mer:
    """Builds a model with the settings' encoder, whose weights are loaded, and a new head.

    Args:
        settings: Name and weights of the encoder, and the seed of the head's initial weights.
        config: Configuration of the model; see `model_config`.

    Raises:
        CheckpointError: The encoder's weights cannot be read, or do not fit.
    """
    seed = settings.training.seed
    encoder = FrameEncoder.build(settings.encoder.name, settings.preprocessing, settings.encoder.weights, seed)
    # Seeded again after the encoder, so that the head's initial weights do not depend on the encoder's architecture.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vis4mer(config, encoder)
