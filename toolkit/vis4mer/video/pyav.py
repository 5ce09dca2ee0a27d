"""The CPU reader: decodes whatever FFmpeg decodes, and no more than the sampled frames need."""

from collections.abc import Iterator, Sequence
from functools import partial

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vis4mer.config import DecoderName, Preprocessing
from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.ffmpeg import ContentError, content_call, decode, is_exhaustion, too_little_memory
from vis4mer.video.frames import Damage
from vis4mer.video.index import packets
from vis4mer.video.movie import Movie, display_matrix
from vis4mer.video.resize import DisplayMatrix, Image, Planes, resize, upright
from vis4mer.video.sampled import Decoded, SampledReader

# Full chroma interpolation and exact rounding: FFmpeg's default is faster, but up to two levels too bright or too dark.
_CONVERSION = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class PyAVReader(SampledReader):
    """Decodes with FFmpeg's own video decoders.

    Args:
        movie: Scanned movie.
        preprocessing: Choice of the frames, and their size and resampling.
        reason: Why this video decoder was chosen.
        batch_size: Largest number of frames in a batch.
        times: Ascending times of the samples, in seconds after the first frame, which replace that choice.
        threads: Threads of the video decoder; 0 for one per core.
    """

    name: DecoderName = "pyav"

    def __init__(
        self,
        movie: Movie,
        preprocessing: Preprocessing,
        *,
        reason: str,
        batch_size: int = 32,
        times: Sequence[float] | None = None,
        threads: int = 0,
    ) -> None:
        super().__init__(movie, preprocessing, reason=reason, batch_size=batch_size, times=times)
        self._threads = threads

    def _decode(self, damage: Damage) -> Iterator[Decoded]:
        index, converter = self._movie.index, VideoReformatter()
        for count, (ordinal, frame) in enumerate(self._planned_frames(damage)):
            # Without timestamps everything is decoded, and the order of the output is the presentation order.
            number = count if index.counted else int(index.numbers[ordinal])
            if number >= 0:  # otherwise an edit list hides the frame, or its references are missing
                yield Decoded(number, partial(self._image_of, frame, converter), frame.is_corrupt)

    def _image_of(self, frame: VideoFrame, converter: VideoReformatter) -> Image:
        picture = to_rgb(frame, converter, display_matrix(frame))
        return resize(picture, self._preprocessing)[np.newaxis]

    def _planned_frames(self, damage: Damage) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes according to plan; yields frames in the order they come out, with the ordinals of their packets."""
        last = self._plan.last
        with open_container(self._movie.path) as container:
            stream = movie_stream(container, self._movie.path)
            decoder = stream.codec_context
            decoder.thread_type, decoder.thread_count = "AUTO", self._threads
            for ordinal, packet in enumerate(packets(container, stream)):
                if self._plan.send[ordinal]:
                    # Video decoders reorder frames and delay them, but copy the packet's timestamp to the frame. With
                    # the ordinal in its place, a frame's packet is known even if the real timestamps are missing,
                    # repeated or wrong.
                    packet.pts, packet.dts = ordinal, None
                    yield from self._decode_packet(decoder, packet, damage)
                if self._plan.drain[ordinal]:
                    yield from self._decode_packet(decoder, None, damage)
                    decoder.flush_buffers()  # after draining, a video decoder takes no packet until it is reset
                if ordinal == last:
                    return

    def _decode_packet(
        self, decoder: av.VideoCodecContext, packet: "av.Packet[av.VideoStream] | None", damage: Damage
    ) -> Iterator[tuple[int, VideoFrame]]:
        try:
            frames = decode(decoder, packet)
        except ContentError as error:
            if is_exhaustion(error):
                raise too_little_memory(self.info.path, "decode it") from None
            damage.corrupt_packets += 1
            return
        for frame in frames:
            if frame.pts is not None:
                yield frame.pts, frame


@content_call
def to_rgb(frame: VideoFrame, converter: VideoReformatter, display: DisplayMatrix) -> Planes:
    """Converts a decoded frame to RGB as it is shown.

    The stream's colour matrix and range apply. If it declares none, they are BT.601 and limited range, the defaults of
    FFmpeg and OpenCV.

    Args:
        frame: Decoded frame in any pixel format.
        converter: FFmpeg's converter, which caches its tables between frames of one format.
        display: Transformation that brings the picture upright.

    Returns:
        Red, green and blue planes, uint8 `[3, H, W]`.

    Raises:
        ContentError: FFmpeg does not convert the pixel format or colour matrix, or memory is too small for the size.
    """
    # FFmpeg pads the rows of its planes; planar RGB is stored in the order green, blue, red.
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        for plane in converter.reformat(frame, format="gbrp", interpolation=_CONVERSION).planes
    )
    return upright(np.stack((red, green, blue)), display)
