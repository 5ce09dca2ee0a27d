"""The GPU reader: NVIDIA DALI decodes on the GPU's video engine, or on the CPU the few codecs it has there.

DALI never sees the file. For each planned run of packets (see `vis4mer.video.planner`) a clip is put together in
memory, which holds just those packets, and DALI is asked for the wanted frames by their place in it. So both readers
take the same frames, only trusted code opens files, and memory is bounded by one batch of clips and decoded frames.

Limits:
    * On the CPU DALI decodes VP8, VP9 and MJPEG only.
    * On the GPU it converts colours as BT.601 whatever the video says, so `obstacle` refuses other matrices, and more
      than 8 bits or other than 4:2:0, rather than giving the encoder other colours than in training.
    * A change of resolution inside the video is an error; PyAV follows it.
    * Decoded pictures come to the host for resizing, by the same code as PyAV's.
"""

import importlib
import importlib.util
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.errors import DeviceError, MissingDependencyError, VideoError
from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.frames import DecoderName
from vis4mer.video.index import packets
from vis4mer.video.movie import Movie
from vis4mer.video.resize import upright
from vis4mer.video.sampled import Decoded, SampledReader

_CPU_CODECS = {"vp8", "vp9", "mjpeg"}
_GPU_CODECS = _CPU_CODECS | {"h264", "hevc", "av1", "mpeg4"}
_GPU_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
_BT601_LIKE = {2, 5, 6}  # AVColorSpace: unspecified, BT.470BG, SMPTE 170M

_FRAME_MS = 40  # between frames of a clip; only their order matters


def installed() -> bool:
    """Whether DALI can be imported."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # no package `nvidia` at all
        return False


def obstacle(movie: Movie, device: str) -> str | None:
    """Says why DALI cannot read a movie on a device exactly as PyAV would; None where it can."""
    on_gpu, info, index = device != "cpu", movie.info, movie.index
    if info.codec not in (_GPU_CODECS if on_gpu else _CPU_CODECS):
        return f"DALI does not decode {info.codec} on {'the GPU' if on_gpu else 'the CPU'}"
    if on_gpu and info.pixel_format not in _GPU_PIXEL_FORMATS:
        return f"DALI does not decode {info.pixel_format} on the GPU"
    if on_gpu and movie.colour_matrix not in _BT601_LIKE:
        return "DALI converts only BT.601 colours on the GPU"
    if index.counted or (info.codec == "vp8" and len(index.order) < len(index.times)):
        return "DALI needs a timestamp and a shown frame for every packet"
    if index.corrupt or index.truncated:
        return "the file is damaged, which DALI does not get over"
    return None


@dataclass(frozen=True)
class _Clip:
    """A run of packets as a small movie of its own.

    Attributes:
        data: uint8 [bytes], Matroska.
        numbers: of the wanted frames, in the movie's presentation order.
        places: int32 [wanted], of the same frames in the clip's presentation order.
    """

    data: NDArray[np.uint8]
    numbers: NDArray[np.intp]
    places: NDArray[np.int32]


class DALIReader(SampledReader):
    """Decodes with DALI on `device`: ``cpu``, ``cuda`` or ``cuda:N``.

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
        device: str,
        reason: str,
        batch_size: int = 32,
        times: Sequence[float] | None = None,
    ) -> None:
        super().__init__(movie, preprocessing, reason=reason, batch_size=batch_size, times=times)
        self._pipeline = _build_pipeline(device, batch_size)

    def _decode(self) -> Iterator[Decoded]:
        group: list[_Clip] = []
        for clip in self._clips():
            group.append(clip)
            if sum(len(c.places) for c in group) >= self._batch_size:
                yield from self._decode_clips(group)
                group = []
        if group:
            yield from self._decode_clips(group)

    def _decode_clips(self, clips: list[_Clip]) -> Iterator[Decoded]:
        self._pipeline.feed_input("encoded", [clip.data for clip in clips])
        self._pipeline.feed_input("places", [clip.places for clip in clips])
        try:
            (sequences,) = self._pipeline.run()
        except RuntimeError as error:
            why = str(error).strip().splitlines()[-1]
            remedy = "read it with the PyAV video decoder"
            raise VideoError(f"video={self.info.path!r}: DALI cannot decode it ({why}); {remedy}") from None
        sequences = sequences.as_cpu()
        for i, clip in enumerate(clips):
            pictures = np.moveaxis(np.array(sequences.at(i)), 3, 1)  # a copy: the next run reuses DALI's memory
            for number, picture in zip(clip.numbers, pictures, strict=True):
                yield Decoded(int(number), partial(upright, picture, self._movie.display))

    def _clips(self) -> Iterator[_Clip]:
        index, todo = self._movie.index, self._plan
        wanted = np.zeros(len(index.times), bool)
        wanted[index.order[self._numbers]] = True
        with open_container(self._movie.path) as container:
            stream = movie_stream(container, self._movie.path)
            run: list[int] = []
            held: list[av.Packet[VideoStream]] = []
            for ordinal, packet in enumerate(packets(container, stream)):
                if todo.send[ordinal]:
                    run.append(ordinal)
                    held.append(packet)
                if not todo.drain[ordinal]:
                    continue
                places = np.argsort(np.argsort(index.times[run], kind="stable"))
                data = _remux(stream, held, places)
                ordinals, places = np.array(run)[wanted[run]], places[wanted[run]]
                in_order = np.argsort(places)
                for part in np.array_split(in_order, range(self._batch_size, len(in_order), self._batch_size)):
                    yield _Clip(data, index.numbers[ordinals[part]], places[part].astype(np.int32))
                run, held = [], []


def _remux(
    template: VideoStream, held: "Sequence[av.Packet[VideoStream]]", places: NDArray[np.intp]
) -> NDArray[np.uint8]:
    """Puts packets, in decoding order, into a Matroska file in memory, shown in the order of `places`."""
    file = io.BytesIO()
    delay = int(np.max(np.arange(len(places)) - places))
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream_from_template(template)
        for i, packet in enumerate(held):
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = (int(places[i]) + delay) * _FRAME_MS, i * _FRAME_MS
            packet.duration = _FRAME_MS
            packet.stream = stream
            container.mux(packet)
    return np.frombuffer(file.getbuffer(), np.uint8)


def _build_pipeline(device: str, batch_size: int) -> Any:
    if not installed():
        raise MissingDependencyError(
            "video_decoder='dali': the package nvidia-dali-cuda120 is missing; "
            "install vis4mer[dali] or use video_decoder='pyav'"
        )
    dali: Any = importlib.import_module("nvidia.dali")
    on_gpu = device != "cpu"
    try:
        pipeline = dali.Pipeline(
            batch_size=batch_size,
            num_threads=min(batch_size, os.cpu_count() or 1),
            device_id=int(device.partition(":")[2] or 0) if on_gpu else None,
            exec_async=False,  # frames are wanted as they are asked for; running ahead would hold a second batch
            exec_pipelined=False,
            prefetch_queue_depth=1,
        )
        with pipeline:
            encoded = dali.fn.external_source(name="encoded", dtype=dali.types.UINT8, ndim=1)
            places = dali.fn.external_source(name="places", dtype=dali.types.INT32, ndim=1)
            pipeline.set_outputs(dali.fn.decoders.video(encoded, frames=places, device="mixed" if on_gpu else "cpu"))
        pipeline.build()
    except RuntimeError as error:
        raise DeviceError(f"device={device!r}: DALI finds no GPU it can use there; use video_decoder='pyav'") from error
    return pipeline
