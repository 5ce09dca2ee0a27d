"""From a movie file to a prediction."""

import dataclasses
import logging
import math
import os
from collections.abc import Generator, Iterable, Mapping, Sized
from contextlib import closing
from functools import partial

from vis4mer.config import ModelConfig
from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError, Vis4merError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.classification import Classification, Video
from vis4mer.runtime.footage import Footage
from vis4mer.runtime.outcome import Outcome
from vis4mer.runtime.pipeline import MovieProgress, Pipeline
from vis4mer.runtime.precision import ChosenPrecision
from vis4mer.runtime.prediction import Prediction
from vis4mer.runtime.stages import Stages
from vis4mer.video.reader import FrameProgress, VideoDecoder, VideoInfo, open_video

logger = logging.getLogger(__name__)

# Movies that are read at once by default. On a CPU the encoder needs all cores. On a GPU the encoder is many times
# faster than the engines that decode video, of which one movie keeps one busy; benchmarks/flight.py has the figures.
_JOBS_ON_CPU, _JOBS_ON_GPU = 1, 4

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

    @property
    def default_jobs(self) -> int:
        """Number of movies that `map` reads at once by default."""
        return _JOBS_ON_CPU if self.device.kind == "cpu" else _JOBS_ON_GPU

    def __call__(
        self,
        video: Video,
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

        def report(number: int, done: int, expected: int) -> None:
            if progress is not None:
                progress(done, expected)

        (outcome,) = self.map(
            [video], jobs=1, stride=stride, batch_size=batch_size, video_decoder=video_decoder, progress=report
        )
        return outcome.result()

    def map(
        self,
        videos: Iterable[Video],
        *,
        jobs: int | None = None,
        stride: float | None = None,
        batch_size: int = 32,
        video_decoder: VideoDecoder = "auto",
        progress: MovieProgress | None = None,
        in_order: bool = True,
    ) -> Generator[Outcome, None, None]:
        """Classifies movies, several of them at once.

        A movie that fails does not end the others. On a CPU, every prediction has the same bytes as that of a call for
        the movie alone. On a GPU, with `jobs` above 1, movies share batches, and probabilities may differ by rounding.

        Memory grows with `jobs`, but with neither the number of movies nor their length: at most ``2 * jobs + 2``
        batches of frames and a window of tokens for each movie in flight are held. Predictions that are done wait for
        those of earlier movies, unless `in_order` is false.

        Args:
            videos: Paths of video files, or movies that `vis4mer.video.scan` has read. Taken one by one, from other
                threads, whenever the next movie can begin.
            jobs: Number of movies that are read at once: by default 1 on a CPU, whose cores the encoder needs, and 4 on
                a GPU. They divide the cores among their video decoders.
            stride: Seconds between the starts of windows, as for a single movie.
            batch_size: Frames to encode at once, of one or several movies.
            video_decoder: Video decoder, as for a single movie.
            progress: Called with the position of a movie among `videos`, counted from 0, the number of its frames that
                are encoded, and the number expected.
            in_order: Whether outcomes come in the order of the movies, or each as soon as its movie is over.

        Returns:
            Iterator over the outcomes of all movies. Work goes on only while the next one is waited for. Closing the
            iterator ends all work.

        Raises:
            ConfigError: An argument breaks its rule.
        """
        if batch_size < 1:
            raise ConfigError.of("batch_size", batch_size, "must be at least 1 frame")
        if jobs is None:
            jobs = self.default_jobs
        elif jobs < 1:
            raise ConfigError.of("jobs", jobs, "must be at least 1 movie")
        jobs = min(jobs, max(1, len(videos))) if isinstance(videos, Sized) else jobs
        stride_frames = self._stride_frames(stride)
        pipeline = Pipeline(
            self.stages,
            partial(
                open_video,
                preprocessing=self.model.preprocessing,
                video_decoder=video_decoder,
                device=self.device,
                batch_size=batch_size,
                threads=0 if jobs == 1 else max(1, len(os.sched_getaffinity(0)) // jobs),
            ),
            stride_frames=stride_frames,
            batch_size=batch_size,
            jobs=jobs,
            on_gpu=self.device.kind != "cpu",
            progress=progress,
        )
        outcomes = (self._outcome(movie, stride_frames) for movie in pipeline.run(videos))
        return _in_order(outcomes) if in_order else outcomes

    def _outcome(self, movie: Classification, stride_frames: int) -> Outcome:
        error = movie.error
        if error is None:
            try:
                return Outcome(movie.number, movie.path, prediction=self._prediction(movie, stride_frames))
            except Vis4merError as no_prediction:
                error = no_prediction
        return Outcome(movie.number, movie.path, error=error)

    def _prediction(self, movie: Classification, stride_frames: int) -> Prediction:
        reader, aggregator = movie.reader, movie.aggregator
        return Prediction(
            video=reader.info.path,
            duration=reader.info.duration,
            frames=aggregator.frames,
            stride=stride_frames / self.model.preprocessing.fps,
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
            notes=self._notes(reader.info, movie.footage, padded=aggregator.padded),
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


def _in_order(outcomes: Generator[Outcome, None, None]) -> Generator[Outcome, None, None]:
    """Yields the outcomes in the order of their numbers, which have no gaps."""
    early: dict[int, Outcome] = {}
    number = 0
    with closing(outcomes):
        for outcome in outcomes:
            early[outcome.number] = outcome
            while number in early:
                yield early.pop(number)
                number += 1
