"""Device memory and a stream on one GPU, for code that works with bare pointers.

All calls go to the driver's own library, which every machine with a GPU has. So neither a CUDA toolkit nor another
package is needed, and no CUDA release has to match except the driver's.
"""

import ctypes
import functools
import weakref
from ctypes import byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any

from numpy.typing import NDArray

from vis4mer.devices.device import Device, probe_driver
from vis4mer.errors import DeviceError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream, in which other libraries work

# Argument types matter: without them ctypes would pass 64-bit addresses and sizes as 32-bit integers. A test compares
# them with the CUDA header.
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
    """A stream, which threads may share: each begins with `activate`, and `synchronize` waits for the work of all.

    Args:
        device: GPU of the stream.

    Raises:
        DeviceError: There is no driver, or it refuses the device.
    """

    def __init__(self, device: Device) -> None:
        if problem := probe_driver().problem:
            raise DeviceError.of("device", str(device), problem, "use --device cpu or auto")
        self._device, self._driver = device, load_driver()
        self._context, self._stream = c_void_p(), c_void_p()
        self._call("cuInit", 0)
        # CUDA's runtime API, and so every other library, works in the primary context; only there are their addresses
        # valid here and ours there. It is never released, because memory allocated here may outlive this stream.
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device.index)  # device handles are the indices
        self.activate()
        self._call("cuStreamCreate", byref(self._stream), _NON_BLOCKING)
        # The callback must not hold `self`, or the stream would never be collected. The same goes for memory below.
        weakref.finalize(self, _in_context, self._driver, self._context, "cuStreamDestroy_v2", self._stream)

    @property
    def handle(self) -> int:
        """Handle of the stream, for CUDA's other libraries."""
        return self._stream.value or 0

    def activate(self) -> None:
        """Makes the stream's GPU current for the calling thread.

        A thread calls this before the other methods, every time: the driver keeps the current context per thread, and
        another library may have changed it since.
        """
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> "DeviceMemory":
        """Allocates `size` bytes of device memory of undefined content.

        Raises:
            DeviceError: The device has less left.
        """
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), max(1, size))  # the driver refuses 0 bytes
        memory = DeviceMemory(address.value)
        weakref.finalize(memory, _in_context, self._driver, self._context, "cuMemFree_v2", address.value)
        return memory

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Queues a copy of a contiguous array to device memory.

        The array must stay alive and unchanged until the stream has been synchronised.
        """
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self._stream)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Queues a copy of device memory into a contiguous array, which is complete after `synchronize`."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self._stream)

    def copy(self, source: int, target: int, size: int) -> None:
        """Queues a copy of `size` bytes within the device's memory."""
        self._call("cuMemcpyDtoDAsync_v2", target, source, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Queues the zeroing of `size` bytes."""
        self._call("cuMemsetD8Async", address, 0, size, self._stream)

    def synchronize(self) -> None:
        """Waits until everything queued on the stream is done.

        Raises:
            DeviceError: Earlier work on the device has failed; CUDA reports that late, at whichever call comes next.
        """
        self._call("cuStreamSynchronize", self._stream)

    def _call(self, function: str, *arguments: Any) -> None:
        if status := getattr(self._driver, function)(*arguments):
            # The driver leaves the name null for a status that it does not recognise.
            name = c_char_p()
            self._driver.cuGetErrorName(status, byref(name))
            reason = (name.value or b"CUDA error %d" % status).decode()
            raise DeviceError.of("device", str(self._device), f"{function} failed: {reason}")


class DeviceMemory:
    """Device memory that is freed when this object is collected.

    Attributes:
        address: Address of the first byte, a multiple of 256.
    """

    def __init__(self, address: int) -> None:
        self.address = address


@functools.cache
def copy_stream(device: Device) -> CudaStream:
    """Returns the process's stream for copies of `device`'s arrays.

    Raises:
        DeviceError: There is no driver, or it refuses the device.
    """
    return CudaStream(device)


@functools.cache
def load_driver() -> Any:
    """Returns the driver's library, with the argument types of its functions set."""
    library = ctypes.CDLL("libcuda.so.1")
    for name, types in _PROTOTYPES.items():
        getattr(library, name).argtypes = types
    return library


def _in_context(driver: Any, context: c_void_p, function: str, handle: Any) -> None:
    """Calls a function that releases `handle`; the garbage collector may run it in a thread without a current GPU."""
    # Statuses are ignored: a finalizer has no caller that could handle them, and at the interpreter's exit the driver
    # may already have shut down.
    driver.cuCtxSetCurrent(context)
    getattr(driver, function)(handle)
