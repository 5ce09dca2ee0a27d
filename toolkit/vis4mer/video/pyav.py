"""The CPU reader: whatever FFmpeg decodes, decoding no more than the sampled frames need."""

from collections.abc import Iterator
from functools import partial

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.frames import DecoderName
from vis4mer.video.index import packets
from vis4mer.video.movie import display_matrix
from vis4mer.video.resize import Image, upright
from vis4mer.video.sampled import Decoded, SampledReader

# With full chroma and exact rounding: FFmpeg's default is faster, and up to two levels too bright or too dark.
_CONVERSION = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class PyAVReader(SampledReader):
    """Decodes with FFmpeg's own video decoders, on all cores."""

    name: DecoderName = "pyav"

    def _decode(self) -> Iterator[Decoded]:
        index = self._movie.index
        number = np.full(len(index.times), -1)
        number[index.order] = np.arange(len(index.order))
        for i, (ordinal, frame) in enumerate(self._planned_frames()):
            shown = i if index.counted else int(number[ordinal])
            if shown >= 0:
                yield Decoded(shown, partial(to_rgb, frame), frame.is_corrupt)

    def _planned_frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes according to plan: frames as they come out, each with the ordinal of the packet that held it."""
        todo = self._plan
        last = int(np.flatnonzero(todo.send)[-1])
        with open_container(self._movie.path) as container:
            stream = movie_stream(container, self._movie.path)
            decoder = stream.codec_context
            decoder.thread_type = "AUTO"
            for ordinal, packet in enumerate(packets(container, stream)):
                if ordinal > last:
                    return
                if todo.send[ordinal]:
                    packet.pts, packet.dts = ordinal, None  # decoders hand the timestamp on to the frame
                    yield from self._decode_packet(decoder, packet)
                if todo.drain[ordinal]:
                    yield from self._decode_packet(decoder, None)
                    decoder.flush_buffers()

    def _decode_packet(
        self, decoder: av.VideoCodecContext, packet: "av.Packet[av.VideoStream] | None"
    ) -> Iterator[tuple[int, VideoFrame]]:
        try:
            for frame in decoder.decode(packet):
                if frame.pts is not None:
                    yield frame.pts, frame
        except av.FFmpegError:
            self.damage.corrupt_packets += 1


def to_rgb(frame: VideoFrame) -> Image:
    """A decoded frame as it is shown: uint8 [H, W, 3] RGB.

    Colour matrix and range are the stream's; where it does not say, BT.601 limited range, as FFmpeg and OpenCV have it.
    """
    picture = frame.reformat(format="rgb24", interpolation=_CONVERSION).to_ndarray()
    return upright(np.asarray(picture, np.uint8), display_matrix(frame))
