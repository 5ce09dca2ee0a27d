"""The GPU reader: NVIDIA DALI decodes on the GPU's video engine, or a few codecs on the CPU.

DALI never opens the file. For each planned run of packets (see `vis4mer.video.planner`) this module builds a *clip*, a
small movie in memory that holds just those packets, and requests the wanted frames by their positions in it. So both
readers take the same frames, only the code in `vis4mer.video.container` opens untrusted files, and memory is bounded by
one batch of clips and decoded frames.

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
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vis4mer.config import DecoderName, Preprocessing
from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError, MissingDependencyError, VideoError
from vis4mer.packages import install_command
from vis4mer.video import colour
from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.device_pictures import PictureResizer
from vis4mer.video.ffmpeg import ContentError, content_call
from vis4mer.video.frames import Damage
from vis4mer.video.index import packets
from vis4mer.video.movie import Movie
from vis4mer.video.resize import Image, resize, upright
from vis4mer.video.sampled import Decoded, SampledReader

_CPU_CODECS = {"vp8", "vp9", "mjpeg"}
_GPU_CODECS = _CPU_CODECS | {"h264", "hevc", "av1", "mpeg4"}
_GPU_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
_FULL_RANGE_CODECS = {"h264", "hevc", "av1"}  # those whose parser in the NVIDIA driver reports full range

# Most bytes that DALI's RGB pictures take at a time, on the GPU or the host: 80 pictures of 3840 x 2160.
_MOST_BYTES = 2 << 30
# Pictures that DALI holds for each clip beside the wanted ones, for those that are decoded before they are shown.
_HELD_PICTURES = 8
# Threads that DALI decodes with on a GPU, each of them one clip: GPUs have no more video engines.
_GPU_THREADS = 8

# Milliseconds between the frames of a clip. DALI gets positions, not times, so any constant serves.
_FRAME_MS = 40


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
    if on_gpu and not colour.is_known(movie.colour_matrix):
        return f"colour matrix {movie.colour_matrix} cannot be derived from DALI's colours"
    if on_gpu and movie.full_range and not (movie.range_is_coded and info.codec in _FULL_RANGE_CODECS):
        return f"DALI does not find the full range of this {info.codec} video"
    if on_gpu and (info.width % 2 or info.height % 2):
        return f"DALI does not decode pictures of an odd size, {info.width} x {info.height}, on the GPU"
    # Positions in a clip are the packets' ranks by timestamp. A VP8 packet that only updates references would count as
    # a frame there although it shows none.
    hidden_packets = info.codec == "vp8" and len(index.order) < len(index.times)
    if index.counted or hidden_packets:
        return "DALI needs a timestamp and a shown frame for every packet"
    if index.corrupt or index.truncated:
        return "the file is damaged, which DALI does not tolerate"
    return None


@dataclass(frozen=True)
class _Clip:
    """A run of packets as a small movie of its own.

    Attributes:
        data: Matroska file, uint8 `[bytes]`.
        numbers: Wanted frames as frame numbers of the movie, intp `[wanted]`, ascending.
        places: The same frames as positions in the clip's presentation order, int32 `[wanted]`, ascending.
    """

    data: NDArray[np.uint8]
    numbers: NDArray[np.intp]
    places: NDArray[np.int32]


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
        self._device = device
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
        for group in self._groups(self._clips()):
            yield from self._decode_clips(group)

    def _groups(self, clips: Iterable[_Clip]) -> Iterator[list[_Clip]]:
        """Yields the clips in groups, each for one run of the pipeline.

        When samples are sparse, a clip often holds a single wanted frame, so several clips share a run. A group is
        complete with as many wanted frames as a batch has, or before its pictures would take more than `_MOST_BYTES`.
        Every clip holds at least one wanted frame, so a group never exceeds the pipeline's batch size.
        """
        group: list[_Clip] = []
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

    def _decode_clips(self, clips: list[_Clip]) -> Iterator[Decoded]:
        self._pipeline.feed_input("encoded", [clip.data for clip in clips])
        self._pipeline.feed_input("places", [clip.places for clip in clips])
        # On a GPU, DALI binds its pictures to the stream on which they are resized: that stream waits for them, and
        # their memory is used again only after what is queued there when they are dropped.
        consumer = () if self._device.kind == "cpu" else (stream_of(self._device).handle,)
        try:
            (outputs,) = self._pipeline.run(*consumer)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]  # DALI's stack comes first, the cause last
            raise self._undecodable(reason) from None
        sequences = [outputs.at(i) for i in range(len(clips))]  # [wanted, H, W, 3] each
        images = self._resize_on_host(sequences) if self._device.kind == "cpu" else self._resize_on_gpu(sequences)
        del outputs, sequences
        for i, number in enumerate(np.concatenate([clip.numbers for clip in clips])):
            yield Decoded(int(number), partial(_image, images, i))

    def _resize_on_host(self, sequences: Sequence[Any]) -> Image:
        pictures = (np.moveaxis(picture, 2, 0) for sequence in sequences for picture in np.asarray(sequence))
        return np.stack([resize(upright(picture, self._movie.display), self._preprocessing) for picture in pictures])

    def _resize_on_gpu(self, sequences: Sequence[Any]) -> DeviceArray:
        arrays = [DeviceArray.from_interface(sequence, self._device) for sequence in sequences]
        if any(array.shape[1:] != self._resizer.stored for array in arrays):
            raise self._undecodable("its pictures change their size")
        return self._resizer(arrays)

    def _clips(self) -> Iterator[_Clip]:
        """Yields the clips of all runs; a run ends where the plan drains the video decoder."""
        run: list[int] = []  # ordinals
        held: list[av.Packet[VideoStream]] = []
        with open_container(self._movie.path) as container:
            stream = movie_stream(container, self._movie.path)
            for ordinal, packet in enumerate(packets(container, stream)):
                if self._plan.send[ordinal]:
                    run.append(ordinal)
                    held.append(packet)
                if self._plan.drain[ordinal]:
                    yield from self._clips_of_run(stream, np.array(run), held)
                    run, held = [], []
                if ordinal == self._plan.last:
                    return

    def _clips_of_run(
        self, stream: VideoStream, run: NDArray[np.intp], held: "Sequence[av.Packet[VideoStream]]"
    ) -> Iterator[_Clip]:
        """Yields one clip, or several with the same data if more frames are wanted than fit into a batch."""
        index = self._movie.index
        places = _ranks(index.times[run])
        try:
            data = _remux(stream, held, places)
        except ContentError as error:
            raise self._undecodable(str(error)) from None
        # A run also holds packets that are sent only as references. Their frames are decoded but not requested.
        is_wanted = np.isin(index.numbers[run], self._numbers)
        numbers, places = index.numbers[run[is_wanted]], places[is_wanted]
        # Packets come in decoding order, but `_decode` has to yield frames in presentation order.
        in_order = np.argsort(places)
        for part in np.array_split(in_order, range(self._frames_at_once, len(in_order), self._frames_at_once)):
            yield _Clip(data, numbers[part], places[part].astype(np.int32))

    def _undecodable(self, reason: str) -> VideoError:
        remedy = "read it with video_decoder='pyav'"
        return VideoError.of("video", self.info.path, f"DALI cannot decode it ({reason})", remedy)


def _stored_size(movie: Movie) -> tuple[int, int]:
    """Returns the height and width of the pictures as they are stored."""
    height, width = movie.info.height, movie.info.width
    return (width, height) if movie.info.rotation in (90, 270) else (height, width)


def _image(images: Array, i: int) -> Array:
    return images[i : i + 1]


def _ranks(times: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns each packet's position in presentation order, intp `[packets]`."""
    order = np.argsort(times, kind="stable")
    return np.argsort(order)  # the inverse of a permutation


@content_call
def _remux(
    template: VideoStream, held: "Sequence[av.Packet[VideoStream]]", places: NDArray[np.intp]
) -> NDArray[np.uint8]:
    """Writes packets to a Matroska file in memory.

    Args:
        template: Stream that the packets come from.
        held: Packets in decoding order.
        places: Their positions in presentation order, intp `[packets]`.

    Returns:
        The file, uint8 `[bytes]`.

    Raises:
        ContentError: FFmpeg cannot write the packets.
    """
    file = io.BytesIO()
    # Decoding times are the packets' positions. A frame must not be shown before it is decoded, so presentation is
    # delayed by as many frames as reordering brings any frame forward.
    delay = int(np.max(np.arange(len(places)) - places))
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream_from_template(template)
        for i, packet in enumerate(held):
            # The original timestamps may repeat, jump or be missing, so times made from the ranks replace them.
            # Matroska counts in milliseconds, so times in that unit are written without rounding.
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = (int(places[i]) + delay) * _FRAME_MS, i * _FRAME_MS
            packet.duration = _FRAME_MS
            packet.stream = stream
            container.mux(packet)
    return np.frombuffer(file.getbuffer(), np.uint8)


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
            exec_dynamic=True,  # the executor whose outputs can be handed over to a stream
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
