"""What both readers do with decoded frames: match them to the samples, resize, batch, and count what is missing."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from vis4mer.config import Preprocessing
from vis4mer.errors import VideoError
from vis4mer.video.frames import Damage, DecoderName, FrameBatch
from vis4mer.video.movie import Movie
from vis4mer.video.planner import plan
from vis4mer.video.resize import Image, Planes, resize


class Decoded(NamedTuple):
    """A decoded frame.

    Attributes:
        number: in presentation order.
        picture: makes the upright picture, uint8 [3, H, W]; only sampled frames pay for it.
        corrupt: the video decoder marks it as damaged.
    """

    number: int
    picture: Callable[[], Planes]
    corrupt: bool = False


class SampledReader(ABC):
    """A `vis4mer.video.frames.VideoReader` but for the decoding itself."""

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
        self._numbers = movie.sample(preprocessing, times)
        self._plan = plan(movie.index, movie.index.order[np.unique(self._numbers)])
        self.n_frames = len(self._numbers)
        self.damage = Damage()
        self._running: Generator[FrameBatch, None, None] | None = None
        self._closed = False

    @abstractmethod
    def _decode(self) -> Iterator[Decoded]:
        """Yields at least those sampled frames that can be decoded, in presentation order."""

    def __iter__(self) -> Iterator[FrameBatch]:
        self.close()
        self.damage = Damage(corrupt_packets=self._movie.index.corrupt, truncated=self._movie.index.truncated)
        self._running, self._closed = self._batches(), False
        return self._running

    def close(self) -> None:
        """Releases the file; an iteration under way ends, in another thread when that has decoded its next frame."""
        self._closed = True
        if self._running is not None:
            with suppress(ValueError):  # it is running, in another thread
                self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self) -> Generator[FrameBatch, None, None]:
        index, batch = self._movie.index, []
        for number, image in self._samples():
            batch.append((image, index.seconds(index.order[number])))
            if len(batch) == self._batch_size:
                yield _stack(batch)
                batch = []
        if batch:
            yield _stack(batch)

    def _samples(self) -> Iterator[tuple[int, Image]]:
        """For each sample the number of the frame used and its resized picture."""
        position, last = 0, None
        for frame in self._decode():
            if self._closed:
                return
            if last is not None and frame.number <= last.number:
                continue  # shown already: a damaged stream repeats or reorders frames
            late = int(np.searchsorted(self._numbers, frame.number))
            due = int(np.searchsorted(self._numbers, frame.number, side="right"))
            yield from self._use(last or frame, late - position, missing=True)
            yield from self._use(frame, due - late)
            position, last = due, frame
            if position == self.n_frames:
                return
        if last is None:
            remedy = "give a complete movie file"
            raise VideoError(f"video={self.info.path!r}: none of its sampled frames can be decoded; {remedy}")
        yield from self._use(last, self.n_frames - position, missing=True)

    def _use(self, frame: Decoded, samples: int, *, missing: bool = False) -> Iterator[tuple[int, Image]]:
        """Lets a frame stand for a number of consecutive samples."""
        if samples <= 0:
            return
        self.damage.missing_frames += samples if missing else 0
        self.damage.corrupt_frames += samples if frame.corrupt else 0
        image = resize(frame.picture(), self._preprocessing)
        for _ in range(samples):
            yield frame.number, image


def _stack(batch: list[tuple[Image, float]]) -> FrameBatch:
    images, seconds = zip(*batch, strict=True)
    return FrameBatch(np.stack(images), np.array(seconds, np.float64))
