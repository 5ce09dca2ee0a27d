"""The part common to all readers: matches decoded frames to samples, batches them, and counts what is missing."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from vis4mer.config import DecoderName, Preprocessing
from vis4mer.devices.arrays import Array, join
from vis4mer.errors import VideoError
from vis4mer.video.ffmpeg import ContentError, is_exhaustion, too_little_memory
from vis4mer.video.frames import Damage, FrameBatch
from vis4mer.video.movie import Movie
from vis4mer.video.planner import plan


class Decoded(NamedTuple):
    """A decoded frame.

    Attributes:
        number: Frame number in presentation order.
        image: Function that returns the image as it goes into a batch, uint8 `[1, height, width, 3]`, on the host or on
            a GPU. Conversion to RGB costs about as much as decoding, so only sampled frames pay for it.
        corrupt: Whether the video decoder marks the frame as damaged.
    """

    number: int
    image: Callable[[], Array]
    corrupt: bool = False


@dataclass
class _Pass:
    """One iteration over a reader. Each has its own state, since another thread may still run an older one.

    Attributes:
        damage: Damage that it finds.
        closed: Whether it must end.
    """

    damage: Damage
    closed: bool = False


class SampledReader(ABC):
    """A `vis4mer.video.frames.VideoReader` except for the decoding itself.

    Args:
        movie: Scanned movie.
        preprocessing: Choice of the frames, and their size and resampling.
        reason: Why this video decoder was chosen.
        batch_size: Largest number of frames in a batch.
        times: Ascending times of the samples, in seconds after the first frame, which replace that choice.
    """

    name: DecoderName

    def __init__(
        self,
        movie: Movie,
        preprocessing: Preprocessing,
        *,
        reason: str,
        batch_size: int = 32,
        times: Sequence[float] | None = None,
    ) -> None:
        self.reason = reason
        self.info = movie.info
        self._movie = movie
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        # The frame number that each sample takes, ascending. A frame occurs several times if it is shown for longer
        # than a sampling period; it is decoded once.
        self._numbers = movie.sample(preprocessing, times)
        self._plan = plan(movie.index, movie.index.order[np.unique(self._numbers)])
        self.n_frames = len(self._numbers)
        self.damage = Damage()
        self._pass = _Pass(self.damage)
        self._running: Generator[FrameBatch, None, None] | None = None

    def keep(self, samples: slice) -> None:
        """Leaves out all other samples, which another reader reads. Only before the first iteration."""
        index = self._movie.index
        self._numbers = self._numbers[samples]
        self._plan = plan(index, index.order[np.unique(self._numbers)])
        self.n_frames = len(self._numbers)

    @abstractmethod
    def _decode(self, damage: Damage) -> Iterator[Decoded]:
        """Yields at least those sampled frames that can be decoded, in presentation order, and counts damage."""

    def __iter__(self) -> Iterator[FrameBatch]:
        # Each iteration starts over. It ends the previous one, whose file would otherwise stay open, and counts the
        # damage anew, so that a second pass does not report it twice.
        self.close()
        index = self._movie.index
        self.damage = Damage(corrupt_packets=index.corrupt, truncated=index.truncated)
        self._pass = _Pass(self.damage)
        self._running = self._batches(self._pass)
        return self._running

    def close(self) -> None:
        """Releases the file. An iteration in another thread ends once that thread has decoded its next frame."""
        self._pass.closed = True
        if self._running is not None:
            with suppress(ValueError):  # "generator already executing", in another thread: it sees `closed` instead
                self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, current: _Pass) -> Generator[FrameBatch, None, None]:
        index = self._movie.index
        batch: list[tuple[Array, float]] = []
        for number, image in self._samples(current):
            # This is the time of the frame that is used, not of the sample: a stand-in keeps its own time.
            batch.append((image, index.seconds(index.order[number])))
            if len(batch) == self._batch_size:
                yield _stack(batch)
                batch = []
        if batch:
            yield _stack(batch)

    def _samples(self, current: _Pass) -> Iterator[tuple[int, Array]]:
        """Yields for each sample the number of the frame used and its resized picture.

        Samples and decoded frames both ascend by frame number, so this is a merge of two sorted sequences. In an intact
        file every sampled frame is among the decoded ones. Otherwise, the arrival of a frame proves that the sampled
        frames with lower numbers are missing, and the frame decoded before it stands in for them: it is what a player
        would keep showing.
        """
        done = 0  # number of samples yielded
        last: Decoded | None = None
        for frame in self._decode(current.damage):
            if current.closed:
                return
            if last is not None and frame.number <= last.number:
                continue  # a damaged stream repeats or reorders frames; their samples are done
            # `_numbers` ascends and may repeat: samples before `n_before` take lower frame numbers, and those from
            # there to `n_through` take this frame.
            n_before = int(np.searchsorted(self._numbers, frame.number))
            n_through = int(np.searchsorted(self._numbers, frame.number, side="right"))
            # At the very beginning there is no earlier frame, so the first that decodes has to stand in.
            yield from self._use(last or frame, n_before - done, current.damage, missing=True)
            yield from self._use(frame, n_through - n_before, current.damage)
            done, last = n_through, frame
            # Draining the video decoder may still bring out frames that are shown later and that no sample takes.
            if done == self.n_frames:
                return
        if last is None:
            rule = "none of its sampled frames can be decoded"
            raise VideoError.of("video", self.info.path, rule, "pass a complete movie file")
        # The remaining samples lie after the last frame that decodes, as at the end of a truncated file.
        yield from self._use(last, self.n_frames - done, current.damage, missing=True)

    def _use(
        self, frame: Decoded, n_samples: int, damage: Damage, *, missing: bool = False
    ) -> Iterator[tuple[int, Array]]:
        """Yields a frame for a number of consecutive samples; `missing` if it stands in for the frames they take."""
        if n_samples <= 0:
            return
        if missing:
            damage.missing_frames += n_samples
        if frame.corrupt:
            damage.corrupt_frames += n_samples
        # Samples of one frame share the image, which nobody changes.
        image = self._image(frame)
        for _ in range(n_samples):
            yield frame.number, image

    def _image(self, frame: Decoded) -> Array:
        try:
            return frame.image()
        except ContentError as error:
            if is_exhaustion(error):
                raise too_little_memory(self.info.path, "convert its pictures to RGB") from None
            # The picture's format and size are the stream's, so the other frames would fail in the same way.
            rule = f"its pictures cannot be converted to RGB ({error})"
            remedy = "convert it to H.264 with a BT.709 colour matrix and a smaller size"
            raise VideoError.of("video", self.info.path, rule, remedy) from None


def _stack(batch: list[tuple[Array, float]]) -> FrameBatch:
    images, seconds = zip(*batch, strict=True)
    return FrameBatch(join(images, len(images)), np.array(seconds, np.float64))
