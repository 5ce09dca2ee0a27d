"""Arrays as they pass between runners: NumPy's on the CPU, device memory on a GPU.

On a GPU tokens stay where the encoder wrote them: windows are cut by copies within the device's memory, and only logits
come to the host. Whatever an array is handed to may use it at once and from any stream.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vis4mer.devices.cuda import copy_stream
from vis4mer.devices.device import Device


@dataclass(frozen=True)
class DeviceArray:
    """A contiguous, row-major array in a GPU's memory, complete: nothing is still being written to it.

    It speaks the CUDA array interface, which PyTorch, DALI and CuPy read; `from_interface` reads theirs.

    Attributes:
        address: of its first element.
        shape: of at least one axis.
        dtype: of its elements.
        device: whose memory it is.
        owner: keeps the memory for as long as the array lives.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: Device
    owner: object

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any], device: Device) -> "DeviceArray":
        """A new array of undefined content.

        Raises:
            DeviceError: the device has no memory left.
        """
        stream = copy_stream(device)
        stream.activate()
        memory = stream.allocate(math.prod(shape) * dtype.itemsize)
        return cls(memory.address, shape, dtype, device, memory)

    @classmethod
    def from_interface(cls, array: Any, device: Device) -> "DeviceArray":
        """A view of another library's array on `device`, on which no work must be under way.

        Args:
            array: contiguous, with ``__cuda_array_interface__``.
            device: whose memory it is.
        """
        facts = array.__cuda_array_interface__
        return cls(facts["data"][0], tuple(facts["shape"]), np.dtype(facts["typestr"]), device, array)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Reference: Numba documentation, CUDA Array Interface, version 3."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """Rows: elements along the first axis."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> "DeviceArray":
        """A view of consecutive rows."""
        start, stop, _ = rows.indices(len(self))
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (max(0, stop - start), *self.shape[1:])
        return DeviceArray(self.address + start * row_bytes, shape, self.dtype, self.device, self.owner)

    def reshape(self, shape: tuple[int, ...]) -> "DeviceArray":
        """A view of another shape with as many elements."""
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"shape={shape}: must have as many elements as {self.shape}")
        return DeviceArray(self.address, shape, self.dtype, self.device, self.owner)

    def numpy(self) -> NDArray[Any]:
        """A copy on the host.

        Raises:
            DeviceError: the device failed.
        """
        host, stream = np.empty(self.shape, self.dtype), copy_stream(self.device)
        stream.activate()
        stream.download(self.address, host)
        stream.synchronize()
        return host


Array = NDArray[Any] | DeviceArray


def on_host(array: Array) -> NDArray[Any]:
    """The array itself where it is on the host, else a copy there.

    Raises:
        DeviceError: the device failed.
    """
    return array.numpy() if isinstance(array, DeviceArray) else array


def join(pieces: Sequence[Array], rows: int) -> Array:
    """Joins arrays along their first axis, with zeros after them, where they are.

    Args:
        pieces: ``[n, ...]`` each, of one type, on one device.
        rows: of the result, no fewer than the pieces have together.

    Returns:
        ``[rows, ...]``; the piece itself where it is the only one and whole.

    Raises:
        DeviceError: the device failed, most often for lack of memory.
    """
    first = pieces[0]
    if len(pieces) == 1 and len(first) == rows:
        return first
    if isinstance(first, DeviceArray):
        return _join_on_device(cast("Sequence[DeviceArray]", pieces), rows)
    joined = np.zeros((rows, *first.shape[1:]), first.dtype)
    np.concatenate(cast("Sequence[NDArray[Any]]", pieces), out=joined[: sum(map(len, pieces))])
    return joined


def _join_on_device(pieces: Sequence[DeviceArray], rows: int) -> DeviceArray:
    first = pieces[0]
    joined = DeviceArray.empty((rows, *first.shape[1:]), first.dtype, first.device)
    stream, filled = copy_stream(first.device), 0
    for piece in pieces:
        stream.copy(piece.address, joined.address + filled, piece.nbytes)
        filled += piece.nbytes
    if filled < joined.nbytes:
        stream.clear(joined.address + filled, joined.nbytes - filled)
    stream.synchronize()
    return joined
