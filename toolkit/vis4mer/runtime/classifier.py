"""From a movie file to a prediction."""

import dataclasses
import importlib.util
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.errors import BundleError, CheckpointError, ConfigError
from vis4mer.runtime.arrays import Array, join, on_host
from vis4mer.runtime.bundle import ENCODER, MANIFEST, Bundle
from vis4mer.runtime.checkpoint import eager_runners, load_model
from vis4mer.runtime.device import Device, on_device
from vis4mer.runtime.graphs import open_graph
from vis4mer.runtime.overlap import Overlap
from vis4mer.runtime.precision import AskedPrecision, Chosen, bundle_precision
from vis4mer.runtime.prediction import HeadPrediction, Prediction, WindowPrediction, aggregate
from vis4mer.runtime.runner import Runner
from vis4mer.runtime.windows import Window, cut_windows
from vis4mer.video.reader import FrameBatch, VideoDecoder, open_video

__all__ = ["Classifier", "HeadPrediction", "Prediction", "WindowPrediction", "load"]

Progress = Callable[[int, int], None]
Build = Callable[[Device], tuple[Mapping[str, Runner], Chosen]]

_CHECKPOINT_CONFIG = "config.json"
_WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_WEIGHTS_MAGIC = (b"PK\x03\x04", b"\x80\x02")  # what torch.save writes, now and formerly
_SAMPLE_BUNDLE = "vis4mer_sample_bundle"
_GIVE_A_MODEL = "give a bundle directory, a checkpoint directory or a checkpoint file"

logger = logging.getLogger(__name__)


def load(
    path: str | os.PathLike[str] | None = None, device: str = "auto", precision: AskedPrecision = "auto"
) -> "Classifier":
    """Loads a model for prediction.

    Args:
        path: of a bundle (directory with ``manifest.json``) or a checkpoint (directory with ``config.json``, or a
            file); the sample bundle that is installed with this package where not given.
        device: ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` takes the first GPU if there is one that works.
        precision: of a checkpoint's encoder: ``fp32``, ``bf16``, or ``auto`` for bf16 where the device is faster with
            it and the encoder's tokens stay near those in fp32. A bundle has the one it was exported in.

    Raises:
        BundleError: the bundle is incomplete, altered, or of a format that cannot run here.
        CheckpointError: the checkpoint cannot be read, holds no encoder, or has no windows of seconds.
        ConfigError: the bundle was exported in another precision, or an argument breaks its rule.
        DeviceError: the asked device is absent or unusable.
        MissingDependencyError: the checkpoint needs PyTorch, or the bundle ONNX Runtime.
    """
    if precision not in get_args(AskedPrecision):
        raise ConfigError(f"precision={precision!r}: must be one of {', '.join(get_args(AskedPrecision))}")
    source = sample_bundle() if path is None else Path(path)
    config, build = (_open_bundle if is_bundle(source) else _open_checkpoint)(source, precision)
    if config.encoder is None:
        rule = "holds decoders only, and a movie needs a frame encoder too"
        raise CheckpointError(
            f"bundle={str(source)!r}: {rule}; 'vis4mer export --encoder NAME' puts a checkpoint of decoders on one"
        )
    if config.windows.samples is not None:
        rule = f"sees a movie as {config.windows.samples} samples of the whole, which have no place on a timeline"
        raise CheckpointError(f"bundle={str(source)!r}: {rule}; 'vis4mer eval' evaluates it, it cannot be served")
    (runners, chosen), used, reason = on_device(device, build)
    return Classifier(config, runners, source=str(source), device=used, device_reason=reason, precision=chosen)


def sample_bundle() -> Path:
    """Path of the sample bundle that is installed with this package.

    Raises:
        BundleError: this installation has none.
    """
    # Of importlib.resources, files() does not work for a package without code in an editable installation.
    package = importlib.util.find_spec(_SAMPLE_BUNDLE)
    for folder in (package and package.submodule_search_locations) or ():
        if (Path(folder) / MANIFEST).is_file():
            return Path(folder)
    raise BundleError(
        f"bundle=None: the package {_SAMPLE_BUNDLE} is not installed or holds no {MANIFEST}; name a bundle"
    )


def is_bundle(path: Path) -> bool:
    """Whether `path` is a bundle, as opposed to a checkpoint.

    Raises:
        BundleError: it is neither.
    """
    try:
        if (path / MANIFEST).exists():
            return True
        if (path / _CHECKPOINT_CONFIG).exists():
            return False
        if path.is_file():
            return _require_checkpoint(path)
        missing = f"holds neither {MANIFEST} nor {_CHECKPOINT_CONFIG}" if path.exists() else "does not exist"
    except OSError as error:
        missing = f"cannot be read: {error.strerror}"
    raise BundleError(f"bundle={str(path)!r}: {missing}; {_GIVE_A_MODEL}")


def _require_checkpoint(file: Path) -> Literal[False]:
    """Raises BundleError if `file` does not look like weights, which is told without PyTorch."""
    if (file.parent / MANIFEST).exists():
        folder = str(file.parent)
        raise BundleError(f"bundle={str(file)!r}: is one file of a bundle; give its directory, {folder!r}")
    if file.suffix.lower() in _WEIGHTS_SUFFIXES:
        return False
    with file.open("rb") as opened:
        if opened.read(4).startswith(_WEIGHTS_MAGIC):
            return False
    raise BundleError(f"bundle={str(file)!r}: is neither a bundle nor a checkpoint; {_GIVE_A_MODEL}")


def _open_bundle(path: Path, asked: AskedPrecision) -> tuple[ModelConfig, Build]:
    bundle = Bundle.open(path)
    chosen = bundle_precision(bundle, asked)

    def build(device: Device) -> tuple[Mapping[str, Runner], Chosen]:
        return {name: open_graph(bundle, name, device) for name in bundle.graphs}, chosen

    return bundle.model, build


def _open_checkpoint(path: Path, asked: AskedPrecision) -> tuple[ModelConfig, Build]:
    model = load_model(path)

    def build(device: Device) -> tuple[Mapping[str, Runner], Chosen]:
        return eager_runners(model, device, asked)

    return model.config, build


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
                video, self.model.preprocessing, decoder=video_decoder, device=device, batch_size=batch_size
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
