"""A reader that begins with DALI and goes on with PyAV where DALI fails, in the middle of a movie if need be.

Much can go wrong on a GPU only while it decodes: its memory may run out, its engine may refuse what the driver promised
to decode. All frames of a movie have the same numbers for both readers, so PyAV continues with the next one.

DALI reports no error where its decoder returns no picture: the frame is then whatever was in its memory before.
Therefore one frame of the first movie of each format is compared with PyAV's.
"""

import functools
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from vis4mer.config import DecoderName
from vis4mer.devices.arrays import on_host
from vis4mer.errors import DeviceError, VideoError
from vis4mer.video.dali import DALIError
from vis4mer.video.frames import FrameBatch
from vis4mer.video.sampled import SampledReader

logger = logging.getLogger(__name__)

# Mean difference, in levels of 255, up to which two images show the same frame. Rounding, other chroma interpolation
# and corrected colours make less than 2, and an undefined picture some tens.
_SAME_FRAME = 8

_compared: set[tuple[str, str, int, int]] = set()  # formats whose frames were found to be right in this process


class FallbackReader:
    """A `vis4mer.video.frames.VideoReader` that replaces DALI by PyAV once DALI has failed.

    Batches that were delivered stay valid, so those in a GPU's memory are followed by batches on the host.

    Args:
        first: DALI reader.
        open_rest: Function that opens the PyAV reader, given the reason for its use.

    Attributes:
        name: Video decoder in use.
        reason: Why it is in use; after a failure, also how many frames DALI has read.
        info: Properties of the video.
        n_frames: Number of frames that an iteration yields in total.
        damage: Damage found; final after an iteration.
    """

    def __init__(self, first: SampledReader, open_rest: Callable[[str], SampledReader]) -> None:
        self.name: DecoderName = first.name
        self.reason, self.info, self.n_frames, self.damage = first.reason, first.info, first.n_frames, first.damage
        self._reader, self._open_rest = first, open_rest
        self._failed = False
        self._running: Generator[FrameBatch, None, None] | None = None
        self._passes = 0  # iterations begun or ended; one goes on only while no other has followed

    def __iter__(self) -> Iterator[FrameBatch]:
        self.close()
        self._running = self._batches(self._passes)
        return self._running

    def close(self) -> None:
        """Releases the file. An iteration in another thread ends once that thread has decoded its next frame."""
        self._passes += 1
        self._reader.close()
        if self._running is not None:
            with suppress(ValueError):  # "generator already executing", in another thread: it compares the passes
                self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, number: int) -> Generator[FrameBatch, None, None]:
        if self._failed:
            # The reader of the iteration before has begun in the middle of the movie.
            self._reader = self._open_rest(self.reason)
            yield from self._read(self._reader)
            return
        n_read = 0
        try:
            for batch in self._read(self._reader):
                self._compare(batch)
                n_read += len(batch.pts_seconds)
                yield batch
        except (VideoError, DeviceError) as error:
            if number != self._passes:
                return
            self._replace(n_read, error.reason if isinstance(error, DALIError) else str(error))
            yield from self._rest(n_read)

    def _read(self, reader: SampledReader) -> Iterator[FrameBatch]:
        batches = iter(reader)
        self.damage = reader.damage  # that of this iteration
        return batches

    def _compare(self, batch: FrameBatch) -> None:
        """Compares the last frame of a movie's first batch, if it is the first movie of its format.

        Raises:
            DALIError: It is not the frame that PyAV reads.
        """
        # The reason names codec and device.
        video_format = (self.reason, self.info.pixel_format, self.info.width, self.info.height)
        if video_format in _compared:
            return
        difference = self._difference(batch)
        if difference > _SAME_FRAME:
            problem = f"its frames differ from PyAV's by {difference:.0f} levels of 255 on average"
            raise DALIError.because(problem, self.info.path)
        _compared.add(video_format)

    def _difference(self, batch: FrameBatch) -> float:
        """Returns the mean difference of a first batch's last frame from PyAV's, in levels of 255."""
        last = len(batch.pts_seconds) - 1
        with self._open_rest("") as reader:
            reader.keep(slice(last, last + 1))
            try:
                (expected,) = reader
            except VideoError:
                return 0.0  # PyAV does not read the frame at all, so nothing speaks against DALI's
        image = on_host(batch.frames[last : last + 1]).astype(np.int16)
        return float(np.abs(image - on_host(expected.frames)).mean())

    def _replace(self, n_read: int, problem: str) -> None:
        """Opens the PyAV reader."""
        _log_replacement(problem)
        self.reason = f"DALI failed after {n_read} of {self.n_frames} frames, PyAV read the others: {problem}"
        self._reader, self._failed = self._open_rest(self.reason), True
        self.name = self._reader.name

    def _rest(self, n_read: int) -> Iterator[FrameBatch]:
        """Yields PyAV's frames from sample `n_read` on."""
        # Where frames are missing, the frame before stands in for them, so that one is read again.
        n_again = min(n_read, 1)
        self._reader.keep(slice(n_read - n_again, None))
        for batch in self._read(self._reader):
            rest = FrameBatch(batch.frames[n_again:], batch.pts_seconds[n_again:])
            n_again = 0
            if len(rest.pts_seconds):
                yield rest


@functools.cache
def _log_replacement(problem: str) -> None:
    """Logs that DALI failed; the cache limits it to one message per reason and process."""
    logger.warning("DALI failed to decode a video, and PyAV goes on from there on the CPU: %s", problem)
