"""Runs engines of TensorRT and of TensorRT for RTX: two products with one Python API."""

import importlib
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import CudaStream
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, DeviceError, MissingDependencyError
from vis4mer.text import one_line

logger = logging.getLogger(__name__)

Product = Literal["trt", "trt-rtx"]

_MODULES: dict[Product, str] = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
_REMEDIES: dict[Product, str] = {
    "trt": "on a machine with an NVIDIA GPU, pip install 'vis4mer[trt]', which downloads from NVIDIA's package index",
    "trt-rtx": "pip install 'vis4mer[rtx]'",
}


class TensorRTRunner:
    """One engine with one input and one output, batch-dynamic; safe to call from several threads, one at a time.

    A batch beyond the largest of the engine's profile is run in parts; one below its smallest is run at the smallest.
    Memory for the largest batch is taken once.

    Args:
        engine: serialised, by the same version of the same product and for the same type of GPU.
        name: of the graph, for errors.
        device: the GPU to run on.
        product: that built the engine.

    Raises:
        BundleError: the engine has other inputs and outputs than an exported graph.
        DeviceError: the device is no GPU, is out of memory, or is not one that the engine was built for.
        MissingDependencyError: the product is not installed.
    """

    def __init__(self, engine: bytes, name: str, device: Device, product: Product) -> None:
        if device.kind != "cuda":
            rule = "TensorRT engines run on NVIDIA GPUs only; use --device cuda, or export with --format onnx"
            raise DeviceError(f"device={str(device)!r}: {rule}")
        trt = import_tensorrt(product)
        self._name, self._device = name, device
        self._lock, self._log = threading.Lock(), collect_errors(trt)
        self._stream = CudaStream(device)
        try:
            loaded = trt.Runtime(self._log).deserialize_cuda_engine(engine)
        except TypeError:  # what the constructor raises where CUDA fails it
            loaded = None
        if loaded is None:
            versions = f"{trt.__name__} {trt.__version__} cannot load the engine: {self._log.reason()}"
            rule = "engines are bound to the GPU type and the version they were built with; export on this machine"
            raise DeviceError(f"device={str(device)!r}: graph={name!r}: {versions}; {rule}")
        self._input, self._output = _interface(trt, loaded, name)
        smallest, _, largest = loaded.get_tensor_profile_shape(self._input.name, 0)
        self._smallest, self._largest = int(smallest[0]), int(largest[0])
        self._context = loaded.create_execution_context()
        if self._context is None:
            raise DeviceError(f"device={str(device)!r}: {name} cannot be prepared: {self._log.reason()}")
        self._source = self._stream.allocate(self._largest * self._input.row_bytes)
        self._result = self._stream.allocate(self._largest * self._output.row_bytes)
        self._context.set_tensor_address(self._input.name, self._source.address)
        self._context.set_tensor_address(self._output.name, self._result.address)

    def __call__(self, batch: Array, /) -> DeviceArray:
        """Runs the graph; see `Runner`.

        Raises:
            BundleError: `batch` is not of the type and shape that the engine takes.
            DeviceError: the device failed.
        """
        if batch.dtype != self._input.dtype or batch.shape[1:] != self._input.row:
            given, taken = f"{batch.dtype}{list(batch.shape)}", f"{self._input.dtype}{['N', *self._input.row]}"
            raise BundleError(f"graph={self._name!r}: takes {taken}, not {given}; export it again")
        output = DeviceArray.empty((len(batch), *self._output.row), self._output.dtype, self._device)
        with self._lock:
            self._stream.activate()
            for part in _parts(len(batch), self._largest):
                self._run(batch[part], output[part])
        return output

    def _run(self, rows: Array, output: DeviceArray) -> None:
        """Runs at most as many rows as the profile's largest batch."""
        if isinstance(rows, DeviceArray):
            self._stream.copy(rows.address, self._source.address, rows.nbytes)
        else:
            self._stream.upload(rows := np.ascontiguousarray(rows), self._source.address)
        # Rows up to the smallest batch hold whatever the memory held; rows are independent, and theirs are not read.
        shape = (max(len(rows), self._smallest), *self._input.row)
        accepted = self._context.set_input_shape(self._input.name, shape)
        if not (accepted and self._context.execute_async_v3(self._stream.handle)):
            rule = f"{self._name} failed on a batch of shape {shape}: {self._log.reason()}"
            raise DeviceError(f"device={str(self._device)!r}: {rule}; try a smaller --batch-size")
        self._stream.copy(self._result.address, output.address, output.nbytes)
        self._stream.synchronize()


def import_tensorrt(product: Product) -> Any:
    """The Python module of `product`.

    Raises:
        MissingDependencyError: it is not installed, or its libraries cannot be loaded.
    """
    name = _MODULES[product]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        rule = f"is needed for {product} engines; {_REMEDIES[product]}"
        raise MissingDependencyError(f"{name}={one_line(str(error))!r}: {rule}") from None


def collect_errors(trt: Any) -> Any:
    """A logger for TensorRT's objects, which report failures by a log entry and a None.

    It passes everything on to this module's logger at debug level. Its ``reason()`` gives the first error logged since
    it was last asked, in one line: those after it are consequences.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            logger.debug("%s: %s", trt.__name__, message)
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._errors.append(message)

        def reason(self) -> str:
            reason = one_line(self._errors[0]) if self._errors else "no reason was given"
            self._errors.clear()
            return reason

    return Log()


@dataclass(frozen=True)
class _Tensor:
    """An engine's input or output.

    Attributes:
        name: in the graph.
        dtype: of its elements.
        row: its shape without the batch.
    """

    name: str
    dtype: np.dtype[Any]
    row: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row) * self.dtype.itemsize


def _interface(trt: Any, engine: Any, name: str) -> tuple[_Tensor, _Tensor]:
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    for i in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(i)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(tensor)))
        found = _Tensor(tensor, dtype, tuple(engine.get_tensor_shape(tensor))[1:])
        (inputs if engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT else outputs).append(found)
    if len(inputs) != 1 or [output.dtype for output in outputs] != [np.float32]:
        rule = f"must have one input and one float32 output, not {inputs} and {outputs}; export it again"
        raise BundleError(f"graph={name!r}: {rule}")
    return inputs[0], outputs[0]


def _parts(rows: int, largest: int) -> Iterator[slice]:
    """Slices of at most `largest` rows that cover `rows` of them in order."""
    return (slice(start, min(start + largest, rows)) for start in range(0, rows, largest))
