"""A stand-in for DALI on a GPU: FFmpeg decodes the clips, and the pictures lie in a stand-in driver's memory."""

import ctypes
import io
import weakref
from types import SimpleNamespace
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from ..fake_driver import STREAM, FakeDriver


class FakeDALI:
    """The part of ``nvidia.dali`` that the reader uses.

    Attributes:
        driver: Driver that lends the memory.
        runs: Numbers of pictures of each run's clips.
        held: Most bytes of pictures at a time, counting those that DALI holds for each clip.
    """

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.runs: list[list[int]] = []
        self.held = 0
        self.types = SimpleNamespace(UINT8="uint8", INT32="int32")
        self.fn = SimpleNamespace(
            external_source=lambda *, name, dtype, ndim: (name, dtype, ndim),
            decoders=SimpleNamespace(video=self._video),
        )

    def Pipeline(self, **options: Any) -> "FakePipeline":  # noqa: N802
        assert set(options) == {"batch_size", "num_threads", "device_id", "prefetch_queue_depth", "exec_dynamic"}
        # Only this executor binds its outputs to a stream.
        assert (options["device_id"], options["prefetch_queue_depth"], options["exec_dynamic"]) == (0, 1, True)
        assert 1 <= options["num_threads"] <= 8
        return FakePipeline(self, options["batch_size"])

    @staticmethod
    def _video(encoded: Any, *, frames: Any, device: str, affine: bool) -> str:
        assert (encoded, frames) == (("encoded", "uint8", 1), ("places", "int32", 1))
        assert (device, affine) == ("mixed", False)
        return "sequences"


class FakePipeline:
    def __init__(self, dali: FakeDALI, batch_size: int) -> None:
        self._dali, self._batch_size = dali, batch_size
        self._inputs: dict[str, list[NDArray[Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_outputs(self, output: str) -> None:
        assert output == "sequences"

    def build(self) -> None:
        pass

    def feed_input(self, name: str, data: list[NDArray[Any]]) -> None:
        assert 1 <= len(data) <= self._batch_size
        assert all(array.dtype == {"encoded": np.uint8, "places": np.int32}[name] for array in data)
        self._inputs[name] = data

    def run(self, stream: int) -> tuple["FakeOutputs"]:
        assert stream == STREAM, "the outputs are bound to another stream than the one they are read on"
        encoded, places = self._inputs.pop("encoded"), self._inputs.pop("places")
        sequences = [_decode(data)[at] for data, at in zip(encoded, places, strict=True)]
        self._dali.runs.append([len(sequence) for sequence in sequences])
        picture = sequences[0][0].nbytes
        self._dali.held = max(self._dali.held, sum(8 + len(sequence) for sequence in sequences) * picture)
        return (FakeOutputs(self._dali.driver, sequences),)


class FakeOutputs:
    """Pictures in device memory, which is overwritten in the order of the stream once nothing refers to them."""

    def __init__(self, driver: FakeDriver, sequences: list[NDArray[np.uint8]]) -> None:
        self._tensors = [FakeTensor(driver, sequence) for sequence in sequences]

    def at(self, i: int) -> "FakeTensor":
        return self._tensors[i]


class FakeTensor:
    def __init__(self, driver: FakeDriver, sequence: NDArray[np.uint8]) -> None:
        block = ctypes.create_string_buffer(sequence.nbytes)
        address = ctypes.addressof(block)
        driver.memory[address] = block

        # DALI writes as late as it may, and takes the memory back as early as it may.
        def write() -> None:
            ctypes.memmove(address, sequence.ctypes.data, sequence.nbytes)

        def release() -> None:
            driver.memory.pop(address)
            ctypes.memset(block, 0xDD, len(block))

        driver.queue(write)
        weakref.finalize(self, driver.queue, release)
        self.__cuda_array_interface__ = {
            "shape": sequence.shape,
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "version": 2,
        }


def _decode(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns all pictures of a clip in presentation order, uint8 [n, H, W, 3]."""
    with av.open(io.BytesIO(data.tobytes())) as container:
        stream = container.streams.video[0]
        # NVIDIA's parser takes the range from the stream alone.
        stream.codec_context.color_range = 0
        frames = sorted(container.decode(stream), key=lambda frame: frame.pts)
        return np.stack([to_rgb(frame) for frame in frames])


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Converts a 4:2:0 picture as DALI's kernel does: chroma interpolated to 8 bits, then BT.601, then 8 bits again."""
    y, u, v = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    cb, cr = (_doubled(_doubled(plane.astype(float)).T).T.round() - 128 for plane in (u, v))
    luma, scale = y.astype(float), 1.0
    if not (frame.color_range == 2 or frame.format.name.startswith("yuvj")):
        luma, scale = (luma - 16) * 255 / 219, 255 / 224
    red, blue = luma + 1.402 * scale * cr, luma + 1.772 * scale * cb
    green = luma - (0.344136 * cb + 0.714136 * cr) * scale
    return np.stack([red, green, blue], axis=-1).round().clip(0, 255).astype(np.uint8)


def _doubled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Doubles the number of rows by linear interpolation between their centres."""
    padded = np.concatenate([rows[:1], rows, rows[-1:]])
    result = np.empty((2 * len(rows), rows.shape[1]))
    result[0::2] = 0.25 * padded[:-2] + 0.75 * rows
    result[1::2] = 0.75 * rows + 0.25 * padded[2:]
    return result
