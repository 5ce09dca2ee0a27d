"""Arrays as they pass between runners: NumPy's on the CPU, device memory on a GPU.

On a GPU, tokens stay where the encoder wrote them: windows are joined by copies within the device's memory, and only
logits are copied to the host. An array is always complete, so its consumer may read it at once and from any stream.
This costs one synchronisation per graph run and per join, and in return no stream or event has to travel with the data.
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
    """A contiguous, row-major array in a GPU's memory, to which no work is still writing.

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
        stream = copy_stream(device)
        # The driver allocates on the GPU that is current for the calling thread, whichever GPU the stream belongs to.
        stream.activate()
        memory = stream.allocate(math.prod(shape) * dtype.itemsize)
        return cls(memory.address, shape, dtype, device, memory)

    @classmethod
    def from_interface(cls, array: Any, device: Device) -> "DeviceArray":
        """Returns a view of another library's array.

        Args:
            array: Contiguous array with ``__cuda_array_interface__``. All work on it must be complete, because the
                stream that the interface names is not waited for.
            device: GPU that holds the array.
        """
        interface = array.__cuda_array_interface__
        address, _ = interface["data"]
        return cls(address, tuple(interface["shape"]), np.dtype(interface["typestr"]), device, array)

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
            "stream": None,  # the array is complete, so there is no stream to wait for
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
        # No other stream has to be waited for first: the array is complete, whichever stream wrote it.
        host = np.empty(self.shape, self.dtype)
        stream = copy_stream(self.device)
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
        Array ``[rows, ...]``. A single piece with all the rows is returned itself, not copied.

    Raises:
        DeviceError: The device failed, most often for lack of memory.
    """
    first = pieces[0]
    if len(pieces) == 1 and len(first) == rows:
        return first
    if isinstance(first, DeviceArray):
        return _join_on_device(cast("Sequence[DeviceArray]", pieces), rows)
    joined = np.zeros((rows, *first.shape[1:]), first.dtype)
    # Writing into the zeros leaves those after the pieces in place, and saves the copy that padding afterwards would
    # need.
    filled = sum(len(piece) for piece in pieces)
    np.concatenate(cast("Sequence[NDArray[Any]]", pieces), out=joined[:filled])
    return joined


def _join_on_device(pieces: Sequence[DeviceArray], rows: int) -> DeviceArray:
    first = pieces[0]
    joined = DeviceArray.empty((rows, *first.shape[1:]), first.dtype, first.device)  # activates the stream's GPU
    stream = copy_stream(first.device)
    filled = 0  # bytes
    # The pieces are complete, so copying may start at once although other streams wrote them.
    for piece in pieces:
        stream.copy(piece.address, joined.address + filled, piece.nbytes)
        filled += piece.nbytes
    if filled < joined.nbytes:
        stream.clear(joined.address + filled, joined.nbytes - filled)
    # The copies read the pieces and write the result asynchronously. Waiting here completes the result, and lets the
    # caller drop the pieces: their memory may be freed or reused as soon as the last reference is gone.
    stream.synchronize()
    return joined
