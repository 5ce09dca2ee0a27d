"""From a movie file to a prediction."""

import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import Array, join, on_host
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, ConfigError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.bundle import ENCODER
from vis4mer.runtime.overlap import Overlap
from vis4mer.runtime.precision import Chosen
from vis4mer.runtime.prediction import Prediction, aggregate
from vis4mer.runtime.windows import Window, cut_windows
from vis4mer.video.reader import FrameBatch, VideoDecoder, open_video

Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


class Classifier:
    """A loaded model; call it with a movie.

    Calls share nothing but the graphs, so one classifier may be called from several threads. Within a call, the video
    decoder works ahead of the encoder, and on a GPU the encoder ahead of the S4 decoders. Memory does not grow with the
    movie's length: a few windows of tokens and a few batches of frames are held.

    Attributes:
        model: what the model is.
        source: path of its bundle or checkpoint.
        device: that it runs on.
        device_reason: why that device.
        precision: that the encoder computes in, and why.
    """

    def __init__(
        self,
        model: ModelConfig,
        runners: Mapping[str, Runner],
        *,
        source: str,
        device: Device,
        device_reason: str,
        precision: Chosen,
    ) -> None:
        self.model, self.source, self.device, self.device_reason = model, source, device, device_reason
        self.precision = precision
        self._runners = runners

    def __call__(
        self,
        video: str | os.PathLike[str],
        *,
        stride: float | None = None,
        batch_size: int = 32,
        video_decoder: VideoDecoder = "auto",
        progress: Progress | None = None,
    ) -> Prediction:
        """Classifies a movie.

        Every frame is encoded once, however windows overlap, and every head sees the same tokens.

        Args:
            video: path of a video file.
            stride: seconds from one window's start to the next one's, rounded to whole frames; the model's own where
                not given.
            batch_size: frames to encode at once; as many windows as these frames fill, and at least one, go through a
                head at once.
            video_decoder: ``auto`` picks by what the machine and the codec allow.
            progress: called with the number of frames encoded so far and the number expected.

        Raises:
            ConfigError: an argument breaks its rule.
            VideoError: the video cannot be opened, or yields no frame.
            DeviceError: the device failed, most often for lack of memory.
            Vis4merError: the model's output is not finite.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: must be at least 1 frame")
        windows = self.model.windows if stride is None else dataclasses.replace(self.model.windows, stride=stride)
        fps, length = self.model.preprocessing.fps, self.model.window_frames
        step = windows.stride_frames(fps)
        if stride is not None and not math.isclose(step / fps, stride, rel_tol=0.01):
            _report_rounded_stride(stride, step, fps)
        device = str(self.device)
        with (
            Overlap() as overlap,
            open_video(
                video, self.model.preprocessing, video_decoder=video_decoder, device=device, batch_size=batch_size
            ) as reader,
        ):
            tokens = self._encode(overlap.ahead(reader))
            if self.device.kind != "cpu":  # where encoder and S4 decoders would only fight for the same cores
                tokens = overlap.ahead(tokens)
            cut = cut_windows(_counted(tokens, progress, reader.n_frames), length, step)
            seen, logits = self._run_heads(cut, max(1, batch_size // length))
            info = reader.info
            if padded := seen[0][1] < length:
                rule = f"{info.duration:.3g} s is shorter than the model's window of {windows.seconds:g} s"
                zeros = "the rest is padded with zeros, as in the published protocol"
                logger.warning("video=%r: %s; %s", os.fspath(video), rule, zeros)
            spans = [(start / fps, _end(start + n, fps, info.duration)) for start, n in seen]
            return Prediction(
                video=os.fspath(video),
                duration=info.duration,
                frames=seen[-1][0] + seen[-1][1],
                stride=step / fps,
                padded=padded,
                bundle=self.source,
                device=device,
                device_reason=self.device_reason,
                precision=self.precision.precision,
                precision_reason=self.precision.reason,
                video_decoder=reader.name,
                video_decoder_reason=reader.reason,
                damage=reader.damage,
                heads={name: aggregate(name, head, spans, logits[name]) for name, head in self.model.heads.items()},
            )

    def _encode(self, batches: Iterable[FrameBatch]) -> Iterator[Array]:
        """Yields tokens ``[n, P, D]`` batch by batch."""
        encoder = self.model.encoder
        assert encoder is not None, "load() refuses models without encoder"
        for batch in batches:
            tokens = self._runners[ENCODER](batch.frames)
            _require_shape(ENCODER, tokens, (len(batch.frames), encoder.tokens, encoder.features))
            yield tokens

    def _run_heads(
        self, windows: Iterable[Window], at_once: int
    ) -> tuple[list[tuple[int, int]], dict[str, NDArray[np.float32]]]:
        """Runs every head over all windows.

        Returns:
            Of each window the first frame and the number of frames; of each head the logits ``[n_windows, d_output]``.
        """
        seen: list[tuple[int, int]] = []
        logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.model.heads}
        for group in _batched(windows, at_once):
            seen += [(window.start, window.n_frames) for window in group]
            features = self._features(group)
            for name, head in self.model.heads.items():
                output = self._runners[name](features)
                _require_shape(name, output, (len(group), head.decoder.d_output))
                logits[name].append(on_host(output))
        return seen, {name: np.concatenate(outputs) for name, outputs in logits.items()}

    def _features(self, windows: Sequence[Window]) -> Array:
        """The windows' tokens as the heads take them, ``[B, L, D]``; zeros stand for frames that a short movie lacks.

        Reference: the zero padding is the published LVU protocol's (Islam & Bertasius, ViS4mer, ECCV 2022, section
        4.2).
        """
        frames = self.model.window_frames
        tokens = join([piece for window in windows for piece in window.pieces], len(windows) * frames)
        _, per_frame, features = tokens.shape
        return tokens.reshape((len(windows), frames * per_frame, features))


def _counted(tokens: Iterable[Array], progress: Progress | None, expected: int) -> Iterator[Array]:
    """Passes tokens on, telling `progress` of their frames."""
    report = progress or (lambda done, expected: None)
    report(done := 0, expected)
    for batch in tokens:
        yield batch
        report(done := done + len(batch), expected)


def _batched(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    iterator = iter(windows)
    while group := list(itertools.islice(iterator, size)):
        yield group


@cache
def _report_rounded_stride(stride: float, step: int, fps: float) -> None:
    """Logs a stride that is no whole number of frames, each once per process."""
    rule = f"windows start at frames, of which the model takes {fps:g} a second"
    logger.warning("stride=%g: %s; it becomes %.3g s", stride, rule, step / fps)


def _end(frame: int, fps: float, duration: float) -> float:
    """Where a window before frame index `frame` ends: frames stand for 1/fps seconds, but the movie may end earlier."""
    return min(frame / fps, duration) if duration > (frame - 1) / fps else frame / fps


def _require_shape(graph: str, output: Array, shape: tuple[int, ...]) -> None:
    if output.shape != shape:
        rule = f"gave shape {output.shape} where its configuration says {shape}; export it again"
        raise BundleError(f"graph={graph!r}: {rule}")
