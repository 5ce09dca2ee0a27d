"""From a movie file to a prediction."""

import dataclasses
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import Array
from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError
from vis4mer.runtime.aggregation import MovieAggregator
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.footage import Footage
from vis4mer.runtime.overlap import Overlap
from vis4mer.runtime.precision import ChosenPrecision
from vis4mer.runtime.prediction import Prediction
from vis4mer.runtime.stages import Stages, batched
from vis4mer.video.movie import Movie
from vis4mer.video.reader import FrameProgress, VideoDecoder, VideoInfo, open_video

logger = logging.getLogger(__name__)

_SHORT = 0.5  # of a window; the prediction for a movie that fills less of it is doubtful


class Classifier:
    """A loaded model; call it with a movie.

    Calls share nothing but the graphs, so several threads may call one classifier. Within a call, the video decoder
    works ahead of the encoder, and on a GPU the encoder ahead of the S4 decoders. Memory does not grow with the movie's
    length: a few windows of tokens and a few batches of frames are held.

    On one machine, the same movie, model and options give the same bytes of JSON, whatever the process, its hash seed
    and the thread that calls. Across batch sizes, numbers of threads and devices, probabilities may differ by rounding.

    Attributes:
        model: Configuration of the model.
        stages: Stages of a prediction, for programs that combine them in other ways.
        source: Path of the bundle or checkpoint.
        device: Device that the model runs on.
        device_reason: Why that device is used.
        precision: Precision of the encoder, and the reason for it.
    """

    def __init__(
        self,
        model: ModelConfig,
        runners: Mapping[str, Runner],
        *,
        source: str,
        device: Device,
        device_reason: str,
        precision: ChosenPrecision,
    ) -> None:
        self.model, self.source, self.device, self.device_reason = model, source, device, device_reason
        self.precision = precision
        self.stages = Stages(model, runners)
        self._reported_stride: float | None = None

    def __call__(
        self,
        video: str | os.PathLike[str] | Movie,
        *,
        stride: float | None = None,
        batch_size: int = 32,
        video_decoder: VideoDecoder = "auto",
        progress: FrameProgress | None = None,
    ) -> Prediction:
        """Classifies a movie.

        Every frame is encoded once, however windows overlap, and every head runs on the same tokens.

        Args:
            video: Path of a video file, or a movie that `vis4mer.video.scan` has read.
            stride: Seconds between the starts of consecutive windows, rounded to whole frames; the model's own by
                default.
            batch_size: Frames to encode at once. As many windows as these frames fill, and at least one, go through a
                head at once.
            video_decoder: Video decoder; ``auto`` chooses by device and codec.
            progress: Called with the number of frames encoded so far and the number expected.

        Raises:
            ConfigError: An argument breaks its rule.
            VideoError: The video cannot be opened, or yields no frame.
            DeviceError: The device failed, most often for lack of memory.
            Vis4merError: The model's output is not finite.
        """
        if batch_size < 1:
            raise ConfigError.of("batch_size", batch_size, "must be at least 1 frame")
        stages, preprocessing = self.stages, self.model.preprocessing
        stride_frames = self._stride_frames(stride)
        windows_at_once = max(1, batch_size // self.model.window_frames)
        with (
            Overlap() as overlap,
            open_video(
                video, preprocessing, video_decoder=video_decoder, device=self.device, batch_size=batch_size
            ) as reader,
        ):
            footage = Footage()
            tokens: Iterator[Array] = map(stages.encode, overlap.ahead(footage.watch(reader)))
            # On a CPU, encoder and S4 decoders already use all cores, and would only compete for them.
            if self.device.kind != "cpu":
                tokens = overlap.ahead(tokens)
            windows = stages.cut_windows(_counted(tokens, progress, reader.n_frames), stride_frames)
            aggregator = MovieAggregator(self.model, duration=reader.info.duration)
            for group in batched(windows, windows_at_once):
                aggregator.add(group, stages.run_heads(group))
            return Prediction(
                video=reader.info.path,
                duration=reader.info.duration,
                frames=aggregator.frames,
                stride=stride_frames / preprocessing.fps,
                padded=aggregator.padded,
                bundle=self.source,
                device=str(self.device),
                device_reason=self.device_reason,
                precision=self.precision.precision,
                precision_reason=self.precision.reason,
                video_decoder=reader.name,
                video_decoder_reason=reader.reason,
                damage=reader.damage,
                heads=aggregator.predictions(),
                notes=self._notes(reader.info, footage, padded=aggregator.padded),
            )

    def _stride_frames(self, stride: float | None) -> int:
        """Returns the stride in frames, for a stride in seconds; warns if it is not a whole number of them."""
        fps = self.model.preprocessing.fps
        if stride is None:
            return self.model.windows.stride_frames(fps)
        frames = dataclasses.replace(self.model.windows, stride=stride).stride_frames(fps)
        # The first of consecutive equal warnings is enough; a server that remembered every stride would grow.
        if not math.isclose(frames / fps, stride, rel_tol=1e-9) and stride != self._reported_stride:
            self._reported_stride = stride
            rule = f"windows start at sampled frames, {fps:g} per second"
            logger.warning("stride=%g: %s; using %.6g s", stride, rule, frames / fps)
        return frames

    def _notes(self, info: VideoInfo, footage: Footage, *, padded: bool) -> tuple[str, ...]:
        """Returns the reasons in the movie itself to doubt its prediction; logs them, and any other padding."""
        notes, window = footage.notes, self.model.windows.seconds
        length = f"{info.duration:.3g} s is {{}} the model's window of {window:g} s; the rest is padded with zeros"
        if padded and info.duration < _SHORT * window:
            notes = (*notes, length.format("less than half of"))
        elif padded:
            logger.warning("video=%r: %s, as in the published protocol", info.path, length.format("shorter than"))
        for note in notes:
            logger.warning("video=%r: %s", info.path, note)
        return notes


def _counted(tokens: Iterable[Array], progress: FrameProgress | None, expected: int) -> Iterator[Array]:
    """Yields the tokens, and reports the number of their frames after each batch."""
    done = 0
    if progress is not None:
        progress(done, expected)
    for batch in tokens:
        yield batch
        done += len(batch)
        if progress is not None:
            progress(done, expected)
