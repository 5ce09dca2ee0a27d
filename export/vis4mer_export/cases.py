"""The inputs on which an export is proved, and what the eager model makes of them."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vis4mer.config import ModelConfig, WindowConfig
from vis4mer.errors import ExportError
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.bundle import ENCODER
from vis4mer.runtime.parity import Cases
from vis4mer.video.reader import open_video

# Inputs of each kind; more than one, so that a graph is tried with a batch.
_RANDOM, _MOVIE_FRAMES = 2, 2

# How strong the constant channels of "static" features are against their noise of 1, as massive activations of ViTs.
_MASSIVE = 30.0


def make_cases(model: Vis4mer, length: int, movie: Path | None) -> Cases:
    """Runs the eager model on random inputs and on a movie's.

    Args:
        model: before freezing.
        length: L, of the sequences the heads are exported for.
        movie: whose frames and tokens are tried too; a model without encoder sees random tokens only.

    Raises:
        VideoError: the movie cannot be read.
        ExportError: the model's own outputs are not finite.
    """
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {}
    width = next(iter(model.config.heads.values())).decoder.d_input
    features = [rng.standard_normal((_RANDOM, length, width), dtype=np.float32), _static_features(rng, length, width)]
    frame_kinds = ["random"] * _RANDOM
    kinds = [*frame_kinds, "static"]
    with torch.inference_mode():
        if model.config.encoder is not None:
            size = model.config.preprocessing
            frames = [rng.integers(0, 256, (_RANDOM, size.height, size.width, 3), dtype=np.uint8)]
            if movie is not None:
                window = _first_window(model, movie, length // model.config.encoder.tokens)
                frames.append(window[:: max(1, len(window) // _MOVIE_FRAMES)][:_MOVIE_FRAMES])
                frame_kinds += ["movie"] * len(frames[-1])
                tokens = torch.cat(
                    [model.encode(batch) for batch in torch.from_numpy(window).chunk(max(1, len(window) // 16))]
                )
                features.append(_window_features(tokens, length))
                kinds.append("movie")
            arrays |= {"inputs/encoder": np.concatenate(frames), "kinds/encoder": np.array(frame_kinds)}
            arrays["outputs/encoder"] = model.encode(torch.from_numpy(arrays["inputs/encoder"])).numpy()
        arrays |= {"inputs/heads": _compact(np.concatenate(features)), "kinds/heads": np.array(kinds)}
        rounded = torch.from_numpy(arrays["inputs/heads"].astype(np.float32))
        for name in model.heads:
            arrays[f"outputs/{name}"] = model(rounded, name).numpy()
    for name in (ENCODER, *model.heads):
        if not np.isfinite(arrays.get(f"outputs/{name}", np.zeros(1))).all():
            raise ExportError(f"graph={name!r}: the model itself gives NaN or infinity; check the checkpoint")
    return Cases(arrays)


def _first_window(model: Vis4mer, movie: Path, frames: int) -> NDArray[np.uint8]:
    taken: list[NDArray[np.uint8]] = []
    with open_video(movie, model.config.preprocessing) as reader:
        for batch in reader:
            taken.append(batch.frames)
            if sum(map(len, taken)) >= frames:
                break
    return np.concatenate(taken)[:frames]


def _static_features(rng: np.random.Generator, length: int, width: int) -> NDArray[np.float32]:
    """[1, L, D] of tokens that hardly change, some channels far from zero: noise of mean zero hides what they do."""
    level = rng.standard_normal(width, dtype=np.float32)
    level[:: max(1, width // 4)] *= _MASSIVE
    return level + 0.1 * rng.standard_normal((1, length, width), dtype=np.float32)


def _compact(features: NDArray[np.float32]) -> NDArray[np.generic]:
    """Half precision where its range allows: half the file, and the eager model is given the same rounded values."""
    return features.astype(np.float16) if np.abs(features).max() < np.finfo(np.float16).max else features


def _window_features(tokens: Tensor, length: int) -> NDArray[np.float32]:
    """[T, P, D] to [1, L, D], padded with zeros as a short movie is."""
    features = torch.zeros(1, length, tokens.shape[-1])
    flat = tokens.flatten(0, 1)[:length]
    features[0, : len(flat)] = flat
    return features.numpy()


def exported_length(config: ModelConfig, length: int | None) -> int:
    """L, in tokens, of the sequences that all heads are exported for.

    Args:
        config: of the model.
        length: asked for; the model's window, or l_max without encoder, where None.

    Raises:
        ExportError: the length is beyond a head, holds no whole number of frames, or the heads' inputs differ.
    """
    decoders = [head.decoder for head in config.heads.values()]
    if len({decoder.d_input for decoder in decoders}) > 1:
        raise ExportError(f"heads={list(config.heads)}: take different d_input; export them apart")
    tokens = 1 if config.encoder is None else config.encoder.tokens
    shortest = min(decoder.l_max for decoder in decoders)
    if length is None:
        length = shortest if config.encoder is None else config.window_frames * tokens
    lowest = 2 ** max(decoder.n_layers for decoder in decoders)
    if not lowest <= length <= shortest:
        raise ExportError(f"length={length} tokens: must be from 2**n_layers={lowest} to l_max={shortest}")
    if length % tokens:
        raise ExportError(f"length={length} tokens: must be a multiple of the encoder's {tokens} tokens a frame")
    return length


def with_window(config: ModelConfig, length: int) -> ModelConfig:
    """The configuration whose windows have `length` tokens, for the bundle's manifest."""
    if config.encoder is None or config.window_frames * config.encoder.tokens == length:
        return config
    seconds = length / config.encoder.tokens / config.preprocessing.fps
    return ModelConfig(config.heads, config.encoder, config.preprocessing, WindowConfig(seconds, config.windows.stride))
