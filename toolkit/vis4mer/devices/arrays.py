"""Arrays as they pass between stages: NumPy's on the CPU, device memory on a GPU.

On a GPU, frames stay where they were decoded and resized, and tokens where the encoder wrote them: windows are joined
by copies within the device's memory, and only logits are copied to the host.

A device array is complete *in the order of its device's stream* (`vis4mer.devices.cuda.stream_of`): the work that
writes it is queued there, and need not be done. Whoever reads it queues that work on the same stream, after it, so
neither side waits. The same order makes it safe to drop an array while queued work still reads it: its memory is
reused by later work only. Other libraries are held to this too: their sessions and engines run on that stream, and work
that they did on another one is waited for by an event. The host alone has to wait, in `DeviceArray.numpy`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import Device


@dataclass(frozen=True)
class DeviceArray:
    """A contiguous, row-major array in a GPU's memory, complete in the order of its device's stream.

    It implements the CUDA array interface, which PyTorch, DALI and CuPy read; `from_interface` reads theirs.

    Attributes:
        address: Address of the first element.
        shape: Sizes of the axes, at least one.
        dtype: Type of the elements.
        device: GPU that holds the memory.
        owner: Object that keeps the memory allocated while a view of it lives: a `DeviceMemory`, or another library's
            array. Views share their base's owner, so none of them depends on the base itself.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: Device
    owner: object

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any], device: Device) -> "DeviceArray":
        """Allocates an array of undefined content.

        Raises:
            DeviceError: The device has too little memory left.
        """
        stream = stream_of(device)
        # The driver allocates on the GPU that is current for the calling thread, whichever GPU the stream belongs to.
        stream.activate()
        memory = stream.allocate(math.prod(shape) * dtype.itemsize)
        return cls(memory.address, shape, dtype, device, memory)

    @classmethod
    def from_interface(cls, array: Any, device: Device) -> "DeviceArray":
        """Returns a view of another library's array.

        Args:
            array: Contiguous array with ``__cuda_array_interface__``. If the interface names a stream, the device's
                stream waits for it. Otherwise the work on the array must be queued on the device's stream, or done.
            device: GPU that holds the array.

        Raises:
            DeviceError: The device failed.
        """
        interface = array.__cuda_array_interface__
        address, _ = interface["data"]
        other, stream = interface.get("stream"), stream_of(device)
        if other not in (None, stream.handle):
            stream.activate()
            stream.wait_for(other)
        return cls(address, tuple(interface["shape"]), np.dtype(interface["typestr"]), device, array)

    @classmethod
    def upload(cls, array: NDArray[Any], device: Device) -> "DeviceArray":
        """Returns a copy of a host array on a GPU.

        Raises:
            DeviceError: The device has too little memory left, or failed.
        """
        copy = cls.empty(array.shape, array.dtype, device)  # activates the stream's GPU
        stream_of(device).upload(np.ascontiguousarray(array), copy.address)
        return copy

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Description of the array for other libraries.

        Reference: Numba documentation, CUDA Array Interface, version 3.
        """
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            # None stands for contiguous and row-major.
            "strides": None,
            "stream": stream_of(self.device).handle,
            "version": 3,
        }

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        """Returns the number of rows, the elements along the first axis."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> "DeviceArray":
        """Returns a view of consecutive rows.

        Raises:
            ValueError: The slice has a step other than 1, for which no contiguous view exists.
        """
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"step={step}: must be 1, because rows of a device array are contiguous")
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (max(0, stop - start), *self.shape[1:])
        return DeviceArray(self.address + start * row_bytes, shape, self.dtype, self.device, self.owner)

    def reshape(self, shape: tuple[int, ...]) -> "DeviceArray":
        """Returns a view of another shape with as many elements."""
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"shape={shape}: must have as many elements as {self.shape}")
        return DeviceArray(self.address, shape, self.dtype, self.device, self.owner)

    def numpy(self) -> NDArray[Any]:
        """Returns a copy on the host.

        Raises:
            DeviceError: The device failed.
        """
        host = np.empty(self.shape, self.dtype)
        stream = stream_of(self.device)
        stream.activate()
        stream.download(self.address, host)
        stream.synchronize()
        return host


Array = NDArray[Any] | DeviceArray


def on_host(array: Array) -> NDArray[Any]:
    """Returns the array itself if it is on the host, else a copy there.

    Raises:
        DeviceError: The device failed.
    """
    return array.numpy() if isinstance(array, DeviceArray) else array


def join(pieces: Sequence[Array], rows: int) -> Array:
    """Joins arrays along their first axis and appends zeros, in the memory that holds the arrays.

    Args:
        pieces: Arrays ``[n, ...]``, at least one, all of one type and on one device.
        rows: Rows of the result, no fewer than the pieces have together.

    Returns:
        Array ``[rows, ...]``. A single piece with all the rows is returned itself, not copied; so are pieces on a GPU
        that follow each other in memory, as one view.

    Raises:
        DeviceError: The device failed, most often for lack of memory.
    """
    first = pieces[0]
    if isinstance(first, DeviceArray):
        return _join_on_device(cast("Sequence[DeviceArray]", pieces), rows)
    if len(pieces) == 1 and len(first) == rows:
        return first
    joined = np.zeros((rows, *first.shape[1:]), first.dtype)
    # Writing into the zeros leaves those after the pieces in place, and saves the copy that padding afterwards would
    # need.
    filled = sum(len(piece) for piece in pieces)
    np.concatenate(cast("Sequence[NDArray[Any]]", pieces), out=joined[:filled])
    return joined


def _join_on_device(pieces: Sequence[DeviceArray], rows: int) -> DeviceArray:
    pieces = _merge_neighbours(pieces)
    first = pieces[0]
    if len(pieces) == 1 and len(first) == rows:
        return first
    joined = DeviceArray.empty((rows, *first.shape[1:]), first.dtype, first.device)  # activates the stream's GPU
    stream = stream_of(first.device)
    filled = 0  # bytes
    for piece in pieces:
        stream.copy(piece.address, joined.address + filled, piece.nbytes)
        filled += piece.nbytes
    if filled < joined.nbytes:
        stream.clear(joined.address + filled, joined.nbytes - filled)
    return joined


def _merge_neighbours(pieces: Sequence[DeviceArray]) -> list[DeviceArray]:
    """Replaces consecutive pieces that are neighbours in one array's memory by a view of both."""
    merged: list[DeviceArray] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if last is not None and last.owner is piece.owner and last.address + last.nbytes == piece.address:
            merged[-1] = replace(last, shape=(len(last) + len(piece), *last.shape[1:]))
        else:
            merged.append(piece)
    return merged
