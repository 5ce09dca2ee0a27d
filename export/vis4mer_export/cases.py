"""The inputs on which an export is compared with the eager model, and the eager model's outputs for them."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vis4mer.config import ModelConfig, Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.errors import ExportError
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.cases import MOVIE, Cases, recorded
from vis4mer.runtime.interface import ENCODER, GraphInterface, TensorSpec
from vis4mer.runtime.manifest import Precision
from vis4mer.video.movie import Movie, scan
from vis4mer.video.reader import open_video
from vis4mer.video.resize import resize

# Number of inputs of each kind; more than one, so that a graph is compared on a batch.
_RANDOM, _MOVIE_FRAMES = 2, 2

# Frames that the eager model encodes at once.
_ENCODED_AT_ONCE = 16

# Pictures are stored as they are before resizing, up to these sizes: 682 x 384 for a movie of 1920 x 1080.
_MOST_PIXELS, _LONGEST_SIDE = 1 << 18, 4096

# Level of some channels of "static" features relative to a standard deviation of 1, like the massive activations of
# Vision Transformers.
_MASSIVE = 30.0


class _Inputs:
    """Inputs of one kind of graph, collected batch by batch."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self._batches: list[NDArray[np.generic]] = []

    def add(self, kind: str, batch: NDArray[np.generic]) -> None:
        self.kinds += [kind] * len(batch)
        self._batches.append(batch)

    def joined(self) -> NDArray[np.generic]:
        return np.concatenate(self._batches)


class _Window(NamedTuple):
    """A movie's first window, resized for the encoder.

    Attributes:
        frames: Resized frames, uint8 [T, H, W, 3].
        seconds: Time of each frame after the first, [T].
    """

    frames: NDArray[np.uint8]
    seconds: NDArray[np.float64]


def make_cases(
    model: Vis4mer,
    config: ModelConfig,
    precision: Precision,
    interfaces: Mapping[str, GraphInterface],
    movie: Path | None,
) -> Cases:
    """Runs the eager model on random inputs and on a movie's.

    Args:
        model: The trained model.
        config: Its configuration as the manifest will state it.
        precision: Precision of the export, which is recorded. The eager model runs in fp32.
        interfaces: Interface of each graph.
        movie: Movie whose frames and tokens are used too. Ignored for a model without an encoder.

    Raises:
        VideoError: The movie cannot be read.
        ExportError: The model's own outputs are not finite.
    """
    # The seed is fixed, so that exports of one model to different targets are compared on the same inputs.
    rng = np.random.default_rng(0)
    taken = interfaces[next(iter(model.heads))].input  # all heads take the same features
    features = _Inputs()
    features.add("random", rng.standard_normal(taken.shape(batch=_RANDOM), dtype=np.float32))
    features.add("static", _static_features(rng, taken))
    arrays: dict[str, NDArray[np.generic]] = {}
    pictures: NDArray[np.uint8] | None = None
    with torch.inference_mode():
        if ENCODER in interfaces:
            shape = interfaces[ENCODER].input.shape(batch=_RANDOM)
            frames = _Inputs()
            frames.add("random", rng.integers(0, 256, shape, dtype=np.uint8))
            if movie is not None:
                _, length, _ = taken.shape(batch=1)
                _, tokens, _ = interfaces[ENCODER].output.shape(batch=1)
                scanned, preprocessing = scan(movie), config.preprocessing
                window = _first_window(scanned, preprocessing, length // tokens)
                pictures = _pictures(scanned, preprocessing, window.seconds)
                frames.add(MOVIE, np.stack([resize(np.moveaxis(p, -1, 0), preprocessing) for p in pictures]))
                features.add(MOVIE, _window_features(model, window.frames, taken))
            pixels = frames.joined()
            arrays |= {f"inputs/{ENCODER}": pixels, f"kinds/{ENCODER}": np.array(frames.kinds)}
            arrays[f"outputs/{ENCODER}"] = model.encode(torch.from_numpy(pixels)).numpy()
        stored = _compact(features.joined())
        arrays |= {"inputs/heads": stored, "kinds/heads": np.array(features.kinds)}
        # The eager model gets the values that are stored, so that their rounding is no part of the measured error.
        rounded = torch.from_numpy(stored.astype(np.float32))
        for name in model.heads:
            arrays[f"outputs/{name}"] = model(rounded, name).numpy()
    for name in interfaces:
        if not np.isfinite(arrays[f"outputs/{name}"]).all():
            raise ExportError.of("graph", name, "the model's own output is NaN or infinite", "check the checkpoint")
    return Cases(arrays | recorded(config, precision, _labels(config, arrays), pictures))


def _labels(config: ModelConfig, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, list[str]]:
    """Returns the eager model's label for every case, by classification head."""
    return {
        name: [head.labels[index] for index in arrays[f"outputs/{name}"].argmax(axis=-1)]
        for name, head in config.heads.items()
        if head.task == "classification"
    }


def _first_window(movie: Movie, preprocessing: Preprocessing, frames: int) -> _Window:
    """Returns the movie's first frames, fewer if the movie is shorter."""
    read = 0
    batches: list[NDArray[np.uint8]] = []
    seconds: list[NDArray[np.float64]] = []
    with open_video(movie, preprocessing) as reader:
        for batch in reader:
            batches.append(on_host(batch.frames))
            seconds.append(batch.pts_seconds)
            read += len(batch.frames)
            if read >= frames:
                break
    return _Window(np.concatenate(batches)[:frames], np.concatenate(seconds)[:frames])


def _pictures(movie: Movie, preprocessing: Preprocessing, seconds: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns some of a window's frames as they are before resizing, uint8 [M, H, W, 3].

    Larger pictures than the constants above allow are reduced, so that they hardly add to the bundle.

    Args:
        movie: Scanned movie.
        preprocessing: The model's preprocessing.
        seconds: Time of each of the window's frames.
    """
    chosen = seconds[:: max(1, len(seconds) // _MOVIE_FRAMES)][:_MOVIE_FRAMES]
    sizes = (movie.info.height, movie.info.width)
    shrink = max(1.0, math.sqrt(math.prod(sizes) / _MOST_PIXELS), max(sizes) / _LONGEST_SIDE)
    height, width = (max(1, int(size / shrink)) for size in sizes)
    # Resampling a picture to its own size by area leaves every pixel as it is.
    whole = dataclasses.replace(preprocessing, height=height, width=width, resize="stretch", interpolation="area")
    with open_video(movie, whole, times=chosen.tolist()) as reader:
        return np.concatenate([on_host(batch.frames) for batch in reader])


def _window_features(model: Vis4mer, window: NDArray[np.uint8], taken: TensorSpec) -> NDArray[np.float32]:
    """Encodes a window's frames [T, H, W, 3] to features [1, L, D], padded with zeros as a short movie is."""
    batches = torch.split(torch.from_numpy(window), _ENCODED_AT_ONCE)
    tokens: Tensor = rearrange(torch.cat([model.encode(batch) for batch in batches]), "t p d -> (t p) d")
    features = np.zeros(taken.shape(batch=1), np.float32)
    used = min(len(tokens), features.shape[1])
    features[0, :used] = tokens[:used]
    return features


def _static_features(rng: np.random.Generator, taken: TensorSpec) -> NDArray[np.float32]:
    """Returns features [1, L, D] of a film that hardly changes, some channels far from zero.

    White noise has mean zero in every channel and thus hides errors that grow with a channel's mean.
    """
    shape = taken.shape(batch=1)
    width = shape[-1]
    level = rng.standard_normal(width, dtype=np.float32)
    level[:: max(1, width // 4)] *= _MASSIVE
    return level + 0.1 * rng.standard_normal(shape, dtype=np.float32)


def _compact(features: NDArray[np.generic]) -> NDArray[np.generic]:
    """Rounds features to half precision if their range allows: half the file, and the eager model gets the same."""
    return features.astype(np.float16) if np.abs(features).max() < np.finfo(np.float16).max else features
