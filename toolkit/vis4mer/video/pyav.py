"""The CPU reader: whatever FFmpeg decodes, decoding no more than the sampled frames need."""

from collections.abc import Iterator
from functools import partial

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vis4mer.video.container import movie_stream, open_container
from vis4mer.video.frames import DecoderName
from vis4mer.video.index import packets
from vis4mer.video.movie import display_matrix
from vis4mer.video.resize import DisplayMatrix, Planes, upright
from vis4mer.video.sampled import Decoded, SampledReader

# With full chroma and exact rounding: FFmpeg's default is faster, and up to two levels too bright or too dark.
_CONVERSION = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class PyAVReader(SampledReader):
    """Decodes with FFmpeg's own video decoders, on all cores."""

    name: DecoderName = "pyav"

    def _decode(self) -> Iterator[Decoded]:
        index, converter = self._movie.index, VideoReformatter()
        displays: dict[int, DisplayMatrix] = {}
        for i, (ordinal, frame) in enumerate(self._planned_frames()):
            number = i if index.counted else int(index.numbers[ordinal])
            # A frame whose side data are looked at is part of a reference cycle: its picture would stay in memory until
            # Python searches for such. One frame of each rotation is enough.
            if frame.rotation not in displays:
                displays[frame.rotation] = display_matrix(frame)
            if number >= 0:
                yield Decoded(number, partial(to_rgb, frame, converter, displays[frame.rotation]), frame.is_corrupt)

    def _planned_frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes according to plan: frames as they come out, each with the ordinal of the packet that held it."""
        last = int(np.flatnonzero(self._plan.send)[-1])
        with open_container(self._movie.path) as container:
            stream = movie_stream(container, self._movie.path)
            decoder = stream.codec_context
            decoder.thread_type = "AUTO"
            for ordinal, packet in enumerate(packets(container, stream)):
                if ordinal > last:
                    return
                if self._plan.send[ordinal]:
                    packet.pts, packet.dts = ordinal, None  # decoders hand the timestamp on to the frame
                    yield from self._decode_packet(decoder, packet)
                if self._plan.drain[ordinal]:
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


def to_rgb(frame: VideoFrame, converter: VideoReformatter, display: DisplayMatrix) -> Planes:
    """A decoded frame as it is shown: uint8 [3, H, W], red, green and blue.

    Colour matrix and range are the stream's; where it does not say, BT.601 limited range, as FFmpeg and OpenCV have it.
    """
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
        for plane in converter.reformat(frame, format="gbrp", interpolation=_CONVERSION).planes
    )
    return upright(np.stack((red, green, blue)), display)
