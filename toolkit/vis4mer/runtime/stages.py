"""The stages of a prediction: frames -> tokens -> windows -> logits -> predictions.

`vis4mer.runtime.classifier.Classifier` composes them for a movie file. A program that needs another composition, such
as a server that sends each window's result once it is ready, drives the same stages::

    stages = classifier.stages
    with open_video(path, stages.model.preprocessing) as reader:
        aggregator = MovieAggregator(stages.model, duration=reader.info.duration)
        tokens = (stages.encode(batch) for batch in reader)
        for window in stages.cut_windows(tokens):
            (result,) = aggregator.add([window], stages.run_heads([window]))
            send(result)

Each stage handles one item and keeps nothing of it, so stages may run in different threads (see
`vis4mer.runtime.overlap`), be timed one by one, or be fed by an endless stream.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import Array, join, on_host
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.interface import ENCODER
from vis4mer.runtime.windows import Window, cut_windows
from vis4mer.video.reader import FrameBatch

T = TypeVar("T")


class Stages:
    """The stages between decoded frames and logits, for one loaded model; safe to call from several threads.

    Attributes:
        model: Configuration of the model, which has an encoder.
        runners: Runners of the model's graphs: ``encoder``, and one for each head under the head's name.
    """

    def __init__(self, model: ModelConfig, runners: Mapping[str, Runner]) -> None:
        self.model, self.runners = model, runners

    def encode(self, batch: FrameBatch) -> Array:
        """Computes the tokens of a batch of frames, float32 ``[N, P, D]``, on the encoder's device.

        Raises:
            BundleError: The graph returned something else than its interface states.
            DeviceError: The device failed, most often for lack of memory.
        """
        return self.runners[ENCODER](batch.frames)

    def encode_together(self, batches: Sequence[Array]) -> list[Array]:
        """Computes the tokens of several batches of frames, such as those of several movies, in one run.

        Args:
            batches: Frames uint8 ``[N, H, W, 3]`` each, at least one batch, all on the host or all on the device.

        Returns:
            Tokens of each batch, float32 ``[N, P, D]``, as views of one array on the encoder's device.

        Raises:
            BundleError: The graph returned something else than its interface states.
            DeviceError: The device failed, most often for lack of memory.
        """
        tokens = self.runners[ENCODER](join(batches, sum(map(len, batches))))
        ends = itertools.accumulate(map(len, batches), initial=0)
        return [tokens[start:end] for start, end in itertools.pairwise(ends)]

    def cut_windows(self, tokens: Iterable[Array], stride_frames: int | None = None) -> Iterator[Window]:
        """Yields each window as soon as its last frame is encoded; see `vis4mer.runtime.windows.cut_windows`.

        Args:
            tokens: Tokens ``[N, P, D]`` of consecutive frames, in batches of any size.
            stride_frames: Frames from one window's start to the next one's; the model's own stride by default.
        """
        if stride_frames is None:
            stride_frames = self.model.windows.stride_frames(self.model.preprocessing.fps)
        return cut_windows(tokens, self.model.window_frames, stride_frames)

    def run_heads(self, windows: Sequence[Window]) -> dict[str, NDArray[np.float32]]:
        """Runs every head on a batch of windows.

        Returns:
            Logits float32 ``[len(windows), d_output]`` of each head, on the host.

        Raises:
            BundleError: A graph returned something else than its interface states.
            DeviceError: The device failed, most often for lack of memory.
        """
        return {name: on_host(logits) for name, logits in self.queue_heads(windows).items()}

    def queue_heads(self, windows: Sequence[Window]) -> dict[str, Array]:
        """Runs every head on a batch of windows, as `run_heads` does, and leaves the logits on the heads' device.

        A GPU may still compute when this returns, so further work can be queued before the logits are read.
        """
        features = self._features(windows)
        return {name: self.runners[name](features) for name in self.model.heads}

    def _features(self, windows: Sequence[Window]) -> Array:
        """Joins the windows' tokens into ``[B, L, D]``, the heads' input; zeros stand for frames that a movie lacks.

        Reference: The zero padding is the published LVU protocol's (Islam & Bertasius, ViS4mer, ECCV 2022, section
        4.2).
        """
        frames = self.model.window_frames
        pieces: list[Array] = []
        for window in windows:
            # The window of a short movie is padded by itself, because windows of other movies may follow.
            pieces += window.pieces if window.n_frames == frames else [join(window.pieces, frames)]
        tokens = join(pieces, len(windows) * frames)
        _, tokens_per_frame, features = tokens.shape
        return tokens.reshape((len(windows), frames * tokens_per_frame, features))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields consecutive items in lists of `size`; the last list may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
