"""Device memory and a stream on one GPU, for whatever works with bare pointers.

Everything goes through the driver's own library, which every machine with a GPU has: neither a CUDA toolkit nor another
package is needed, and of the CUDA releases, only the driver must fit.
"""

import ctypes
import functools
import weakref
from ctypes import byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any

from numpy.typing import NDArray

from vis4mer.devices.device import Device, probe_driver
from vis4mer.errors import DeviceError

_NON_BLOCKING = 1  # does not wait for the default stream, in which other libraries work

_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (c_void_p, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemcpyDtoDAsync_v2": (c_uint64, c_uint64, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_uint64, c_ubyte, c_size_t, c_void_p),
    "cuGetErrorName": (c_int, c_void_p),
}


class CudaStream:
    """A stream. Threads may share one: each begins with `activate`, and `synchronize` waits for the work of all.

    Args:
        device: a GPU.

    Raises:
        DeviceError: there is no driver, or it refuses the device.
    """

    def __init__(self, device: Device) -> None:
        if problem := probe_driver().problem:
            raise DeviceError(f"device={str(device)!r}: {problem}; use --device cpu or auto")
        self._device, self._driver = device, load_driver()
        self._context, self._stream = c_void_p(), c_void_p()
        self._call("cuInit", 0)
        # The primary context is the one that CUDA's runtime API works in, and so every other library. It stays
        # retained: their objects, and memory taken here, may outlive this stream.
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device.index)  # device handles are the indices
        self.activate()
        self._call("cuStreamCreate", byref(self._stream), _NON_BLOCKING)
        weakref.finalize(self, _in_context, self._driver, self._context, "cuStreamDestroy_v2", self._stream)

    @property
    def handle(self) -> int:
        """The stream as CUDA's other libraries take it."""
        return self._stream.value or 0

    def activate(self) -> None:
        """Makes the stream's GPU that of the calling thread; every use from a thread begins with it."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> "DeviceMemory":
        """Takes `size` bytes of device memory; what they hold is undefined.

        Raises:
            DeviceError: there is not so much left.
        """
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), max(1, size))
        memory = DeviceMemory(address.value)
        weakref.finalize(memory, _in_context, self._driver, self._context, "cuMemFree_v2", address.value)
        return memory

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copies a contiguous array to device memory, after what the stream already has to do."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self._stream)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Copies device memory into a contiguous array, which holds it once the stream is synchronised."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self._stream)

    def copy(self, source: int, target: int, size: int) -> None:
        """Copies `size` bytes within the device's memory, after what the stream already has to do."""
        self._call("cuMemcpyDtoDAsync_v2", target, source, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Sets `size` bytes to zero, after what the stream already has to do."""
        self._call("cuMemsetD8Async", address, 0, size, self._stream)

    def synchronize(self) -> None:
        """Waits until the stream has done everything.

        Raises:
            DeviceError: something that was asked of the device before has failed.
        """
        self._call("cuStreamSynchronize", self._stream)

    def _call(self, function: str, *arguments: Any) -> None:
        if status := getattr(self._driver, function)(*arguments):
            name = c_char_p()
            self._driver.cuGetErrorName(status, byref(name))
            reason = (name.value or b"CUDA error %d" % status).decode()
            raise DeviceError(f"device={str(self._device)!r}: {function} failed: {reason}")


class DeviceMemory:
    """Device memory that is freed with this object.

    Attributes:
        address: of its first byte, aligned to 256.
    """

    def __init__(self, address: int) -> None:
        self.address = address


@functools.cache
def copy_stream(device: Device) -> CudaStream:
    """The stream on which arrays of `device` are copied, one in a process.

    Raises:
        DeviceError: see `CudaStream`.
    """
    return CudaStream(device)


@functools.cache
def load_driver() -> Any:
    """The driver's library, its functions with their argument types."""
    library = ctypes.CDLL("libcuda.so.1")
    for name, types in _PROTOTYPES.items():
        getattr(library, name).argtypes = types
    return library


def _in_context(driver: Any, context: c_void_p, function: str, handle: Any) -> None:
    driver.cuCtxSetCurrent(context)
    getattr(driver, function)(handle)
