"""The GPU reader: NVIDIA DALI decodes on the GPU's video engine, or a few codecs on the CPU.

DALI never opens the file. It gets *clips*, small movies in memory that hold just the planned packets (see
`vis4mer.video.clips`), and the wanted frames are requested by their positions in them. So both readers take the same
frames, only the code in `vis4mer.video.container` opens untrusted files, and memory is bounded by one batch of clips
and decoded frames.

On a GPU, decoded pictures stay in its memory: `vis4mer.video.device_pictures` corrects their colours and resizes them
there, and the batches that the encoder reads are views or copies of the result in the same memory.

Limits:
    * On the CPU, DALI decodes VP8, VP9 and MJPEG only.
    * On the GPU, DALI's only output is RGB of 8 bits, which it converts as BT.601, whatever the video declares. The
      correction to the declared matrix comes after DALI's rounding and clipping, so colours differ from PyAV's by about
      0.2 levels of 255 on average, and by more where they are saturated. `obstacle` rejects matrices without a
      correction, more than 8 bits and subsamplings other than 4:2:0, because the encoder would see other colours than
      in training.
    * DALI reads the range from the video stream alone, and only where its parser reports it.
    * A change of resolution inside the video is an error; PyAV follows it.
    * DALI keeps up to 100 idle hardware decoders to use again, but compares the coded height of a new clip with the
      shown height of those: H.264 of 1080 rows, coded as 1088, never finds one, so each clip creates another.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self

import numpy as np

from vis4mer.config import DecoderName, Preprocessing
from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import Device, probe_driver
from vis4mer.errors import DeviceError, MissingDependencyError, VideoError
from vis4mer.packages import install_command
from vis4mer.video import colour, nvdec
from vis4mer.video.clips import Clip, cut
from vis4mer.video.device_pictures import PictureResizer
from vis4mer.video.ffmpeg import ContentError
from vis4mer.video.frames import Damage
from vis4mer.video.movie import Movie
from vis4mer.video.resize import Image, resize, upright
from vis4mer.video.sampled import Decoded, SampledReader

_CPU_CODECS = {"vp8", "vp9", "mjpeg"}
_GPU_CODECS = {"vp8", "vp9", "h264", "hevc", "av1", "mpeg4"}
_GPU_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
_FULL_RANGE_CODECS = {"h264", "hevc", "av1"}  # those whose parser in the NVIDIA driver reports full range

# Most bytes that DALI's RGB pictures take at a time, on the GPU or the host: 80 pictures of 3840 x 2160.
_MOST_BYTES = 2 << 30
# Pictures that DALI holds for each clip beside the wanted ones, for those that are decoded before they are shown.
_HELD_PICTURES = 8
# Threads that DALI decodes with on a GPU, each of them one clip: GPUs have no more video engines.
_GPU_THREADS = 8


def installed() -> bool:
    """Returns whether DALI can be imported."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # the parent package `nvidia` is absent
        return False


def obstacle(movie: Movie, device: Device) -> str | None:
    """Returns why DALI cannot read a movie on a device exactly as PyAV does; None if it can."""
    info, index = movie.info, movie.index
    on_gpu = device.kind != "cpu"
    if info.codec not in (_GPU_CODECS if on_gpu else _CPU_CODECS):
        return f"DALI does not decode {info.codec} on {'the GPU' if on_gpu else 'the CPU'}"
    if on_gpu and (problem := _gpu_obstacle(movie)):
        return problem
    # Positions in a clip are the packets' ranks by timestamp. A packet that only updates references would count as a
    # frame there although it shows none.
    hidden_packets = info.codec in ("vp8", "vp9") and len(index.order) < len(index.times)
    if index.counted or hidden_packets:
        return "DALI needs a timestamp and a shown frame for every packet"
    if index.corrupt or index.truncated:
        return "the file is damaged, which DALI does not tolerate"
    # Without a driver, creating the reader fails, with an error that names the device.
    return _engine_obstacle(movie, device) if on_gpu and not probe_driver().problem else None


def _gpu_obstacle(movie: Movie) -> str | None:
    """Returns why DALI cannot decode a movie on any GPU exactly as PyAV does; None if it can."""
    info = movie.info
    if info.pixel_format not in _GPU_PIXEL_FORMATS:
        return f"DALI does not decode {info.pixel_format} on the GPU"
    if info.width % 2 or info.height % 2:
        return f"DALI does not decode pictures of an odd size, {info.width} x {info.height}, on the GPU"
    if not colour.is_known(movie.colour_matrix):
        return f"DALI's colours cannot be corrected to colour matrix {movie.colour_matrix}"
    if movie.full_range and not (movie.range_is_coded and info.codec in _FULL_RANGE_CODECS):
        return f"DALI does not find the full range of this {info.codec} video"
    return f"DALI does not decode {movie.index.oddity} on the GPU" if movie.index.oddity else None


def _engine_obstacle(movie: Movie, device: Device) -> str | None:
    height, width = _stored_size(movie)
    return nvdec.obstacle(device, movie.info.codec, width, height)


def _stored_size(movie: Movie) -> tuple[int, int]:
    """Returns the height and width of the pictures as they are stored."""
    height, width = movie.info.height, movie.info.width
    return (width, height) if movie.info.rotation in (90, 270) else (height, width)


class DALIError(VideoError):
    """DALI cannot decode a video, which PyAV may.

    Attributes:
        reason: Why, without the name of the video and the remedy.
    """

    reason = ""

    @classmethod
    def because(cls, reason: str, video: str) -> Self:
        """Builds the error for a video's path."""
        remedy = "read it with video_decoder='pyav'"
        error = cls.of("video", video, f"DALI cannot decode it ({reason})", remedy)
        error.reason = reason
        return error


class DALIReader(SampledReader):
    """Decodes with DALI.

    Args:
        movie: Scanned movie for which `obstacle` returns None.
        preprocessing: Choice of the frames, and their size and resampling.
        device: Device that decodes.
        reason: Why DALI was chosen.
        batch_size: Largest number of frames in a batch, and of frames that DALI decodes at once.
        times: Ascending times of the samples, in seconds after the first frame, which replace the preprocessing's.

    Raises:
        MissingDependencyError: DALI is not installed.
        DeviceError: DALI cannot use the device.
    """

    name: DecoderName = "dali"

    def __init__(
        self,
        movie: Movie,
        preprocessing: Preprocessing,
        *,
        device: Device,
        reason: str,
        batch_size: int = 32,
        times: Sequence[float] | None = None,
    ) -> None:
        super().__init__(movie, preprocessing, reason=reason, batch_size=batch_size, times=times)
        height, width = _stored_size(movie)
        self._device, self._stored = device, (height, width, 3)
        self._most_pictures = max(1, _MOST_BYTES // (height * width * 3))
        # Largest number of wanted frames in a clip.
        self._frames_at_once = max(1, min(batch_size, self._most_pictures - _HELD_PICTURES))
        self._pipeline = _build_pipeline(device, batch_size)
        if device.kind != "cpu":
            self._resizer = PictureResizer(
                device,
                preprocessing,
                height=height,
                width=width,
                display=movie.display,
                colours=colour.correction(movie.colour_matrix),
            )

    def _decode(self, damage: Damage) -> Iterator[Decoded]:
        clips = cut(self._movie, self._plan, self._numbers, self._frames_at_once)
        try:
            for group in self._groups(clips):
                yield from self._decode_clips(group)
        except ContentError as error:
            raise self._undecodable(str(error)) from None

    def _groups(self, clips: Iterable[Clip]) -> Iterator[list[Clip]]:
        """Yields the clips in groups, each for one run of the pipeline.

        When samples are sparse, a clip often holds a single wanted frame, so several clips share a run. A group is
        complete with as many wanted frames as a batch has, or before its pictures would take more than `_MOST_BYTES`.
        Every clip holds at least one wanted frame, so a group never exceeds the pipeline's batch size.
        """
        group: list[Clip] = []
        wanted = 0
        for clip in clips:
            pictures = wanted + len(clip.places) + _HELD_PICTURES * (len(group) + 1)
            if group and (wanted >= self._batch_size or pictures > self._most_pictures):
                yield group
                group, wanted = [], 0
            group.append(clip)
            wanted += len(clip.places)
        if group:
            yield group

    def _decode_clips(self, clips: list[Clip]) -> Iterator[Decoded]:
        # On a GPU, DALI binds its pictures to the stream on which they are resized: that stream waits for them, and
        # their memory is used again only after what is queued there when they are dropped.
        consumer = () if self._device.kind == "cpu" else (stream_of(self._device).handle,)
        try:
            self._pipeline.feed_input("encoded", [clip.data for clip in clips])
            self._pipeline.feed_input("places", [clip.places for clip in clips])
            (outputs,) = self._pipeline.run(*consumer)
        except Exception as error:  # the types of DALI's errors are not documented
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self._undecodable(lines[-1]) from None  # DALI's stack comes first, the cause last
        sequences = [outputs[i] for i in range(len(outputs))]  # [wanted, H, W, 3] each
        expected = [(len(clip.places), *self._stored) for clip in clips]
        if [tuple(sequence.shape()) for sequence in sequences] != expected:
            raise self._undecodable("it returns fewer or more frames than requested, or of another size")
        images = self._resize_on_host(sequences) if self._device.kind == "cpu" else self._resize_on_gpu(sequences)
        del outputs, sequences
        for i, number in enumerate(np.concatenate([clip.numbers for clip in clips])):
            yield Decoded(int(number), partial(_image, images, i))

    def _resize_on_host(self, sequences: Sequence[Any]) -> Image:
        pictures = (np.moveaxis(picture, 2, 0) for sequence in sequences for picture in np.asarray(sequence))
        return np.stack([resize(upright(picture, self._movie.display), self._preprocessing) for picture in pictures])

    def _resize_on_gpu(self, sequences: Sequence[Any]) -> DeviceArray:
        return self._resizer([DeviceArray.from_interface(sequence, self._device) for sequence in sequences])

    def _undecodable(self, reason: str) -> DALIError:
        return DALIError.because(reason, self.info.path)


def _image(images: Array, i: int) -> Array:
    return images[i : i + 1]


def _build_pipeline(device: Device, batch_size: int) -> Any:
    if not installed():
        rule = "the package nvidia-dali-cuda120 is missing"
        remedy = f"{install_command('dali')}, or use video_decoder='pyav'"
        raise MissingDependencyError.of("video_decoder", "dali", rule, remedy)
    # DALI is an optional dependency, so it is imported only once a reader needs it.
    dali: Any = importlib.import_module("nvidia.dali")
    on_gpu = device.kind != "cpu"
    try:
        pipeline = dali.Pipeline(
            batch_size=batch_size,
            num_threads=min(batch_size, os.cpu_count() or 1, *((_GPU_THREADS,) if on_gpu else ())),
            device_id=device.index if on_gpu else None,
            prefetch_queue_depth=1,  # running ahead would hold a second batch in memory
            exec_dynamic=True,  # the executor that can bind its outputs to a stream
        )
        with pipeline:
            encoded = dali.fn.external_source(name="encoded", dtype=dali.types.UINT8, ndim=1)
            places = dali.fn.external_source(name="places", dtype=dali.types.INT32, ndim=1)
            # "mixed": the compressed data come from the host, the frames stay on the GPU. Its threads must not be
            # bound to cores: those of several pipelines would all share the same ones.
            backend = "mixed" if on_gpu else "cpu"
            pipeline.set_outputs(dali.fn.decoders.video(encoded, frames=places, device=backend, affine=False))
        pipeline.build()
    except RuntimeError as error:
        rule = "DALI finds no GPU that it can use there"
        raise DeviceError.of("device", str(device), rule, "use video_decoder='pyav'") from error
    return pipeline
