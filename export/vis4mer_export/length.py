"""The length of an exported head's input, which is fixed: its range, its default, the windows that follow from it."""

import dataclasses

from vis4mer.config import DecoderConfig, ModelConfig
from vis4mer.errors import ExportError
from vis4mer.runtime.interface import window_length


def require_length(decoder: DecoderConfig, length: int) -> None:
    """Checks that a decoder takes inputs of `length` tokens.

    Raises:
        ExportError: The length is beyond l_max, or too short for the blocks, each of which halves it.
    """
    shortest = 2**decoder.n_layers
    if not shortest <= length <= decoder.l_max:
        rule = f"must be from 2**n_layers={shortest} to l_max={decoder.l_max} tokens"
        raise ExportError.of("length", length, rule)


def exported_length(config: ModelConfig, length: int | None) -> int:
    """Returns L, the number of tokens in the input of every exported head.

    Args:
        config: Configuration of the model.
        length: Requested length; `window_length` if None.

    Raises:
        ExportError: A head does not take the length, it is no whole number of frames, or the heads' inputs differ.
    """
    decoders = [head.decoder for head in config.heads.values()]
    if len({decoder.d_input for decoder in decoders}) > 1:
        raise ExportError.of("heads", list(config.heads), "take different d_input", "export them separately")
    length = window_length(config) if length is None else length
    for decoder in decoders:
        require_length(decoder, length)
    tokens = 1 if config.encoder is None else config.encoder.tokens
    if length % tokens:
        raise ExportError.of("length", length, f"must be a multiple of the encoder's {tokens} tokens a frame")
    return length


def with_window(config: ModelConfig, length: int) -> ModelConfig:
    """Returns the configuration with windows of `length` tokens, for the bundle's manifest."""
    if config.encoder is None or window_length(config) == length:
        return config
    seconds = length / config.encoder.tokens / config.preprocessing.fps
    return dataclasses.replace(config, windows=dataclasses.replace(config.windows, seconds=seconds))
