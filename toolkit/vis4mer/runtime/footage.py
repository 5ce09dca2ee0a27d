"""Finds movies whose pictures leave a model nothing to classify: black and still ones."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vis4mer.devices.arrays import Array, DeviceArray, on_host
from vis4mer.video.device_pictures import Extremes, Levels
from vis4mer.video.frames import FrameBatch

BLACK = 16  # of 255; the largest value of a channel in a black frame
STILL = 12  # of 255; the largest change of a channel of a pixel in a still film


class Footage:
    """Looks at the sampled frames of a movie as they pass by.

    A movie is *black* if no channel of any pixel of any sampled frame exceeds `BLACK`. It is *still* if it has several
    sampled frames, and no channel of any pixel varies by more than `STILL` over all of them. A dark scene is therefore
    not black, and neither is a movie with a single bright frame. Frames are looked at as the model sees them, after
    resizing, which averages noise away. The limits leave room for the noise of compression at good quality; a still
    film of poor quality is not recognised, since its noise is as large as a small motion.

    Frames on a GPU stay there: a kernel tracks their extremes, and two numbers are read at the end. On the host, the
    frames of an ordinary movie are looked at until it is neither, which is usually in the first batch.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._extremes: Extremes | _HostExtremes | None = None

    @property
    def black(self) -> bool:
        """Whether all frames so far are black."""
        return self._extremes is not None and self._extremes.read().brightest <= BLACK

    @property
    def still(self) -> bool:
        """Whether all frames so far show one picture."""
        return self._frames > 1 and self._extremes is not None and self._extremes.read().widest <= STILL

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence if the pictures leave nothing to classify.

        Raises:
            DeviceError: The device that holds the frames failed.
        """
        if self.black:
            return ("every frame is black",)
        return ("the picture does not change",) if self.still else ()

    def watch(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        """Yields the batches, and looks at each before."""
        for batch in batches:
            self.add(batch.frames)
            yield batch

    def add(self, frames: Array) -> None:
        """Looks at the next frames, uint8 ``[N, H, W, 3]``, which the first ones' device or host looks at too.

        Raises:
            DeviceError: The device has too little memory left, or failed.
        """
        if len(frames) == 0:
            return
        self._frames += len(frames)
        if self._extremes is None:
            self._extremes = _extremes_of(frames)
        self._extremes.add(frames)


def _extremes_of(frames: Array) -> "Extremes | _HostExtremes":
    return Extremes(frames.device, frames.shape[1:]) if isinstance(frames, DeviceArray) else _HostExtremes()


class _HostExtremes:
    """`vis4mer.video.device_pictures.Extremes` on the host; stops looking once a movie is neither black nor still."""

    def __init__(self) -> None:
        self._brightest = self._widest = 0
        self._lowest: NDArray[np.uint8] | None = None  # of each channel of each pixel, [H, W, 3]
        self._highest: NDArray[np.uint8] | None = None

    def read(self) -> Levels:
        return Levels(self._brightest, self._widest)

    def add(self, images: Array) -> None:
        frames = on_host(images)
        if self._brightest <= BLACK:
            self._brightest = max(self._brightest, int(frames.max()))
        if self._widest <= STILL:
            self._compare(frames)

    def _compare(self, frames: NDArray[np.uint8]) -> None:
        if self._lowest is None or self._highest is None:
            self._lowest = self._highest = frames[0]
        # A frame far from its predecessor need not be far from the first one, and a slow fade is never far from its
        # predecessor. The extremes over the whole movie show both.
        self._lowest = np.minimum(self._lowest, frames.min(axis=0))
        self._highest = np.maximum(self._highest, frames.max(axis=0))
        self._widest = int((self._highest - self._lowest).max())
