"""The stream of one GPU, its memory and its kernels, for code that works with bare pointers.

All calls go to the driver's own library, which every machine with a GPU has. So neither a CUDA toolkit nor another
package is needed, and no CUDA release has to match except the driver's.
"""

import ctypes
import functools
import threading
import weakref
from ctypes import byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any, NewType

from numpy.typing import NDArray

from vis4mer.devices.device import Device, probe_driver
from vis4mer.errors import DeviceError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream, in which other libraries work
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING: such an event is cheaper to record
_POOLS_SUPPORTED = 115  # CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
_RELEASE_THRESHOLD = 4  # CU_MEMPOOL_ATTR_RELEASE_THRESHOLD

# Argument types matter: without them ctypes would pass 64-bit addresses and sizes as 32-bit integers. A test compares
# them with the CUDA header.
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (c_void_p,),
    "cuStreamCreate": (c_void_p, c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventCreate": (c_void_p, c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventDestroy_v2": (c_void_p,),
    "cuDeviceGetDefaultMemPool": (c_void_p, c_int),
    "cuMemPoolSetAttribute": (c_void_p, c_int, c_void_p),
    "cuMemAllocAsync": (c_void_p, c_size_t, c_void_p),
    "cuMemFreeAsync": (c_uint64, c_void_p),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (c_void_p, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemcpyDtoDAsync_v2": (c_uint64, c_uint64, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_uint64, c_ubyte, c_size_t, c_void_p),
    "cuModuleLoadData": (c_void_p, c_void_p),
    "cuModuleGetFunction": (c_void_p, c_void_p, c_char_p),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "cuGetErrorName": (c_int, c_void_p),
}

Kernel = NewType("Kernel", int)
"""Handle of a function in device code."""

Axes = tuple[int, int, int]  # sizes along x, y and z


class CudaStream:
    """The queue of all of this package's work on one GPU; get it from `stream_of`.

    The GPU executes what is queued in order, so work that reads what earlier work wrote needs no wait. Only the host
    waits, by `synchronize`, before it reads a download. Threads may share the stream; each begins with `activate`.

    Memory belongs to that order too: it may be used by whatever is queued after `allocate`, and is reused only by work
    queued after its release. The driver keeps released memory for the next `allocate`, so neither costs a wait or, once
    the sizes repeat, an allocation.

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
        # valid here and ours there. Neither the context nor the stream is ever released, because memory that is
        # allocated here may outlive this object.
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device.index)  # device handles are the indices
        self.activate()
        self._call("cuStreamCreate", byref(self._stream), _NON_BLOCKING)
        self._has_pool = self._keep_pool()
        self._staging = _Staging()
        self._kernels: dict[tuple[bytes, str], Kernel] = {}

    def _keep_pool(self) -> bool:
        """Lets the driver keep released memory; returns whether it has a pool for that."""
        supported, pool = c_int(), c_void_p()
        self._call("cuDeviceGetAttribute", byref(supported), _POOLS_SUPPORTED, self._device.index)
        if not supported.value:  # as on some virtual GPUs
            return False
        self._call("cuDeviceGetDefaultMemPool", byref(pool), self._device.index)
        # By default, the driver returns the pool's unused memory to the system at every synchronisation.
        self._call("cuMemPoolSetAttribute", pool, _RELEASE_THRESHOLD, byref(c_uint64(2**64 - 1)))
        return True

    @property
    def handle(self) -> int:
        """Handle of the stream, for other libraries: a ``CUstream``, which is also a ``cudaStream_t``."""
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
        address, size = c_uint64(), max(1, size)  # the driver refuses 0 bytes
        release: tuple[Any, ...]
        if self._has_pool:
            self._call("cuMemAllocAsync", byref(address), size, self._stream)
            release = "cuMemFreeAsync", address.value, self._stream
        else:
            self._call("cuMemAlloc_v2", byref(address), size)
            release = "cuMemFree_v2", address.value
        memory = DeviceMemory(address.value)
        # The callback must not hold `self` or `memory`, or they would never be collected.
        weakref.finalize(memory, _release, self._driver, self._context, *release)
        return memory

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copies a contiguous array to device memory; the array may change as soon as the call returns."""
        size = array.nbytes
        if size == 0:
            return
        staging = self._staging
        # The driver copies asynchronously from page-locked memory alone. From other memory it may first wait for all
        # that is queued, so the GPU would fall idle before each upload.
        with staging.lock:
            if staging.size < size:
                self._enlarge(staging, size)
            else:
                # The last upload may not have begun. It stands before the work on its data in the queue, so the GPU
                # still has that work to do when this wait ends.
                self._call("cuEventSynchronize", staging.done)
            ctypes.memmove(staging.address, array.ctypes.data, size)
            self._call("cuMemcpyHtoDAsync_v2", address, staging.address, size, self._stream)
            self._call("cuEventRecord", staging.done, self._stream)

    def _enlarge(self, staging: "_Staging", size: int) -> None:
        staging.size = 0
        if staging.address:
            self.synchronize()
            self._call("cuMemFreeHost", staging.address)
        else:
            self._call("cuEventCreate", byref(staging.done), _NO_TIMING)
        self._call("cuMemHostAlloc", byref(staging.address), size, 0)
        staging.size = size

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Queues a copy of device memory into a contiguous array, which is complete after `synchronize`."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self._stream)

    def copy(self, source: int, target: int, size: int) -> None:
        """Queues a copy of `size` bytes within the device's memory."""
        self._call("cuMemcpyDtoDAsync_v2", target, source, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Queues the zeroing of `size` bytes."""
        self.fill(address, 0, size)

    def fill(self, address: int, value: int, size: int) -> None:
        """Queues the writing of one value, 0 to 255, to each of `size` bytes."""
        self._call("cuMemsetD8Async", address, value, size, self._stream)

    def wait_for(self, stream: int) -> None:
        """Lets the work that is queued from now on wait for what another stream of the GPU holds now.

        Args:
            stream: Handle of the other stream.
        """
        event = c_void_p()
        self._call("cuEventCreate", byref(event), _NO_TIMING)
        try:
            self._call("cuEventRecord", event, stream)
            self._call("cuStreamWaitEvent", self._stream, event, 0)
        finally:
            # The driver destroys the event once it has occurred.
            self._call("cuEventDestroy_v2", event)

    def load_kernel(self, image: bytes, name: str) -> Kernel:
        """Returns a function of device code, which is loaded at the first request and stays loaded.

        Args:
            image: PTX, which the driver compiles for its GPU, or a cubin.
            name: Name of the function, as declared ``extern "C"``.

        Raises:
            DeviceError: The driver cannot compile or load the code, as where it is older than the PTX.
        """
        if (image, name) not in self._kernels:
            module, function = c_void_p(), c_void_p()
            self._call("cuModuleLoadData", byref(module), image)  # a bytes object ends with the NUL that PTX needs
            self._call("cuModuleGetFunction", byref(function), module, name.encode())
            self._kernels[image, name] = Kernel(function.value or 0)
        return self._kernels[image, name]

    def launch(self, kernel: Kernel, grid: Axes, block: Axes, *arguments: Any) -> None:
        """Queues a kernel without dynamic shared memory.

        Args:
            kernel: Kernel from `load_kernel`.
            grid: Numbers of thread blocks.
            block: Numbers of threads in a block.
            arguments: The kernel's parameters in order, each as the ctypes object of its C type.
        """
        pointers = (c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        self._call("cuLaunchKernel", kernel, *grid, *block, 0, self._stream, pointers, None)

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
    """Device memory that is released, in the stream's order, when this object is collected.

    Attributes:
        address: Address of the first byte, a multiple of 256.
    """

    def __init__(self, address: int) -> None:
        self.address = address


class _Staging:
    """Page-locked host memory for one upload.

    Attributes:
        lock: Lock to hold during use.
        address: Address of the memory.
        size: Its size in bytes; 0 before the first use.
        done: Event of the last upload's end.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.address, self.size, self.done = c_void_p(), 0, c_void_p()


_creating = threading.Lock()


def stream_of(device: Device) -> CudaStream:
    """Returns the process's stream on a GPU.

    Raises:
        DeviceError: There is no driver, or it refuses the device.
    """
    # The cache alone could make two streams for two threads, and their work would have no common order.
    with _creating:
        return _stream_of(device)


@functools.cache
def _stream_of(device: Device) -> CudaStream:
    return CudaStream(device)


@functools.cache
def load_driver() -> Any:
    """Returns the driver's library, with the argument types of its functions set.

    Raises:
        DeviceError: The driver is older than one of the functions.
    """
    library = ctypes.CDLL("libcuda.so.1")
    for name, types in _PROTOTYPES.items():
        try:
            getattr(library, name).argtypes = types
        except AttributeError:
            raise DeviceError.of("driver", "libcuda.so.1", f"lacks {name}", "install a newer NVIDIA driver") from None
    return library


def _release(driver: Any, context: c_void_p, function: str, *arguments: Any) -> None:
    """Calls a function that releases memory; the garbage collector may run it in any thread, between any two calls."""
    # Statuses are ignored: a finalizer has no caller that could handle them, and at the interpreter's exit the driver
    # may already have shut down.
    if driver.cuCtxPushCurrent_v2(context) == 0:
        getattr(driver, function)(*arguments)
        driver.cuCtxPopCurrent_v2(byref(c_void_p()))
