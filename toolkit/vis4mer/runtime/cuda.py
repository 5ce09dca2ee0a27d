"""Device memory and a stream on one GPU, for backends that take bare pointers.

Everything goes through NVIDIA's own binding of the driver API: of the CUDA releases, only the driver must fit.
"""

import importlib
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.runtime.device import Device, probe_driver


class CudaStream:
    """A stream, and memory that lives as long as it; not safe to use from several threads at once.

    Args:
        device: a GPU.

    Raises:
        DeviceError: there is no driver, or it refuses the device.
        MissingDependencyError: cuda-bindings is not installed.
    """

    def __init__(self, device: Device) -> None:
        if problem := probe_driver().problem:
            raise DeviceError(f"device={str(device)!r}: {problem}; use --device cpu or auto")
        self._device, self._driver = device, _import_driver()
        self._call("cuInit", 0)
        # The primary context is the one that CUDA's runtime API, and so TensorRT, works in.
        self._context = self._call("cuDevicePrimaryCtxRetain", self._call("cuDeviceGet", device.index))
        self.activate()
        self._stream = self._call("cuStreamCreate", 0)
        self._memory: list[Any] = []
        weakref.finalize(self, _release, self._driver, self._context, self._stream, self._memory)

    @property
    def handle(self) -> int:
        """The stream as CUDA's other libraries take it."""
        return int(self._stream)

    def activate(self) -> None:
        """Makes the stream's GPU that of the calling thread; every use from a thread begins with it."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of device memory; what they hold is undefined."""
        self._memory.append(self._call("cuMemAlloc", size))
        return int(self._memory[-1])

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copies a contiguous array to device memory, after what the stream already has to do."""
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self._stream)

    def download(self, address: int, array: NDArray[np.float32]) -> None:
        """Copies device memory into a contiguous array, which holds it once the stream is synchronised."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._stream)

    def synchronize(self) -> None:
        """Waits until the stream has done everything."""
        self._call("cuStreamSynchronize", self._stream)

    def _call(self, function: str, *arguments: Any) -> Any:
        status, *values = getattr(self._driver, function)(*arguments)
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"device={str(self._device)!r}: {function} failed: {status.name}")
        return values[0] if values else None


def _import_driver() -> Any:
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        rule = "is needed to run TensorRT engines; pip install cuda-bindings"
        raise MissingDependencyError(f"cuda.bindings={error.msg!r}: {rule}") from None


def _release(driver: Any, context: Any, stream: Any, memory: list[Any]) -> None:
    # The primary context stays retained: TensorRT's own objects may outlive this stream.
    driver.cuCtxSetCurrent(context)
    for address in memory:
        driver.cuMemFree(address)
    driver.cuStreamDestroy(stream)
