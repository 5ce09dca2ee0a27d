"""The GPU reader: NVIDIA DALI decodes on the GPU's video engine, or a few codecs on the CPU.

DALI never opens the file. It gets *clips*, small movies in memory that hold just the planned packets (see
`vis4mer.video.clips`), and the wanted frames are requested by their positions in them. So both readers take the same
frames, only the code in `vis4mer.video.container` opens untrusted files, and memory is bounded by one batch of clips
and decoded frames.

Limits:
    * On the CPU, DALI decodes VP8, VP9 and MJPEG only.
    * On the GPU, it converts colours as BT.601, whatever the video declares. `obstacle` rejects other matrices, more
      than 8 bits and subsamplings other than 4:2:0, because the encoder would see other colours than in training.
    * A change of resolution inside the video is an error; PyAV follows it.
    * Decoded pictures are copied to the host and resized there, by the same code as PyAV's.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Self

import numpy as np

from vis4mer.config import DecoderName, Preprocessing
from vis4mer.devices.device import Device, probe_driver
from vis4mer.errors import DeviceError, MissingDependencyError, VideoError
from vis4mer.packages import install_command
from vis4mer.video import nvdec
from vis4mer.video.clips import Clip, cut
from vis4mer.video.ffmpeg import ContentError
from vis4mer.video.frames import Damage
from vis4mer.video.movie import Movie
from vis4mer.video.resize import upright
from vis4mer.video.sampled import Decoded, SampledReader

_CPU_CODECS = {"vp8", "vp9", "mjpeg"}
_GPU_CODECS = {"vp8", "vp9", "h264", "hevc", "av1", "mpeg4"}
_GPU_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
# A video that declares no matrix counts as BT.601, because PyAV's reader converts it as BT.601 too.
_BT601_LIKE = {2, 5, 6}  # AVColorSpace: unspecified, BT.470BG, SMPTE 170M


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
    if on_gpu and info.pixel_format not in _GPU_PIXEL_FORMATS:
        return f"DALI does not decode {info.pixel_format} on the GPU"
    if on_gpu and movie.colour_matrix not in _BT601_LIKE:
        return "DALI converts only BT.601 colours on the GPU"
    if on_gpu and index.oddity:
        return f"DALI does not decode {index.oddity} on the GPU"
    # Positions in a clip are the packets' ranks by timestamp. A packet that only updates references would count as a
    # frame there although it shows none.
    hidden_packets = info.codec in ("vp8", "vp9") and len(index.order) < len(index.times)
    if index.counted or hidden_packets:
        return "DALI needs a timestamp and a shown frame for every packet"
    if index.corrupt or index.truncated:
        return "the file is damaged, which DALI does not tolerate"
    # Without a driver, creating the reader fails, with an error that names the device.
    return _engine_obstacle(movie, device) if on_gpu and not probe_driver().problem else None


def _engine_obstacle(movie: Movie, device: Device) -> str | None:
    width, height = movie.info.width, movie.info.height
    stored = (height, width) if movie.info.rotation in (90, 270) else (width, height)
    return nvdec.obstacle(device, movie.info.codec, *stored)


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
        self._pipeline = _build_pipeline(device, batch_size)

    def _decode(self, damage: Damage) -> Iterator[Decoded]:
        group: list[Clip] = []
        try:
            for clip in cut(self._movie, self._plan, self._numbers, self._batch_size):
                group.append(clip)
                # When samples are sparse, a clip often holds a single wanted frame, so several clips share one run of
                # the pipeline. Every clip holds at least one, so a group never exceeds the pipeline's batch size.
                if sum(len(clip.places) for clip in group) >= self._batch_size:
                    yield from self._decode_clips(group)
                    group = []
        except ContentError as error:
            raise self._undecodable(str(error)) from None
        if group:
            yield from self._decode_clips(group)

    def _decode_clips(self, clips: list[Clip]) -> Iterator[Decoded]:
        try:
            self._pipeline.feed_input("encoded", [clip.data for clip in clips])
            self._pipeline.feed_input("places", [clip.places for clip in clips])
            (sequences,) = self._pipeline.run()
        except Exception as error:  # the types of DALI's errors are not documented
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self._undecodable(lines[-1]) from None  # DALI's stack comes first, the cause last
        sequences = sequences.as_cpu()
        if [len(sequences.at(i)) for i in range(len(sequences))] != [len(clip.places) for clip in clips]:
            raise self._undecodable("it returns fewer or more frames than requested")
        for i, clip in enumerate(clips):
            images = np.array(sequences.at(i))  # [wanted, H, W, 3], copied because the next run reuses DALI's memory
            pictures = np.moveaxis(images, 3, 1)
            for number, picture in zip(clip.numbers, pictures, strict=True):
                yield Decoded(int(number), partial(upright, picture, self._movie.display))

    def _undecodable(self, reason: str) -> DALIError:
        return DALIError.because(reason, self.info.path)


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
            num_threads=min(batch_size, os.cpu_count() or 1),
            device_id=device.index if on_gpu else None,
            exec_async=False,  # running ahead would hold a second batch in memory
            exec_pipelined=False,
            prefetch_queue_depth=1,
        )
        with pipeline:
            encoded = dali.fn.external_source(name="encoded", dtype=dali.types.UINT8, ndim=1)
            places = dali.fn.external_source(name="places", dtype=dali.types.INT32, ndim=1)
            # "mixed": the compressed data come from the host, the frames stay on the GPU.
            pipeline.set_outputs(dali.fn.decoders.video(encoded, frames=places, device="mixed" if on_gpu else "cpu"))
        pipeline.build()
    except RuntimeError as error:
        rule = "DALI finds no GPU that it can use there"
        raise DeviceError.of("device", str(device), rule, "use video_decoder='pyav'") from error
    return pipeline
