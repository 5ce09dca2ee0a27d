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
from vis4mer.devices.cuda import CudaStream, DeviceMemory
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.packages import install_command
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.interface import BATCH, GraphInterface, TensorSpec
from vis4mer.text import one_line

logger = logging.getLogger(__name__)

Product = Literal["trt", "trt-rtx"]

_MODULES: dict[Product, str] = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}


@dataclass(frozen=True)
class TensorRTBackend:
    """Opens the engines of one product.

    Attributes:
        format: Format of the bundle, which is also the product's name.
    """

    format: Product

    def open(self, graph: Graph, device: Device) -> "TensorRTRunner":
        """Loads the engine; see `Backend`."""
        return TensorRTRunner(graph, device, self.format)


class TensorRTRunner:
    """One engine with one input and one output; safe to call from several threads, one at a time.

    An engine takes batches of the sizes in its optimisation profile. A larger batch is run in parts, and a smaller one
    at the smallest size. Memory for the largest size is allocated once.

    Args:
        graph: Serialised engine, built by the same version of the same product for the same type of GPU.
        device: GPU to run on.
        product: Product that built the engine.

    Raises:
        BundleError: The engine has another interface.
        DeviceError: The device is not a GPU, is out of memory, or is not one that the engine was built for.
        MissingDependencyError: The product is not installed.
    """

    def __init__(self, graph: Graph, device: Device, product: Product) -> None:
        if device.kind != "cuda":
            remedy = "use --device cuda, or export with --format onnx"
            raise DeviceError.of("device", str(device), "TensorRT engines run on NVIDIA GPUs only", remedy)
        trt = import_tensorrt(product)
        self._name, self._device = graph.name, device
        # An execution context holds the shapes and addresses of one call, so calls must take turns.
        self._lock, self._log = threading.Lock(), collect_errors(trt)
        self._stream = CudaStream(device)
        try:
            engine = trt.Runtime(self._log).deserialize_cuda_engine(graph.data)
        except TypeError:  # raised by the constructor if CUDA fails
            engine = None
        if engine is None:
            loading = f"{trt.__name__} {trt.__version__} cannot load the engine {graph.name}: {self._log.reason()}"
            rule = "engines are bound to the GPU type and the version they were built with"
            raise DeviceError.of("device", str(device), f"{loading}; {rule}", "export on this machine")
        # Checked first, because the calls below look tensors up by the interface's names.
        graph.require_interface(_interface_of(trt, engine))
        self._input, self._output = graph.interface.input, graph.interface.output
        smallest, _, largest = engine.get_tensor_profile_shape(self._input.name, 0)
        self._smallest, self._largest = int(smallest[0]), int(largest[0])
        self._context = engine.create_execution_context()
        if self._context is None:
            raise DeviceError.of("device", str(device), f"{graph.name} cannot be prepared: {self._log.reason()}")
        self._source = self._allocate(self._input)
        self._result = self._allocate(self._output)

    def _allocate(self, tensor: TensorSpec) -> DeviceMemory:
        """Allocates memory for the largest batch of an input or output, and binds it to the engine."""
        size = math.prod(tensor.shape(batch=self._largest)) * np.dtype(tensor.dtype).itemsize
        memory = self._stream.allocate(size)
        # The addresses never change afterwards, so a call sets only the shape of its batch.
        self._context.set_tensor_address(tensor.name, memory.address)
        return memory

    def __call__(self, batch: Array, /) -> DeviceArray:
        """Runs the graph; see `Runner`."""
        shape = self._output.shape(batch=len(batch))
        # Each call returns memory of its own: the engine's buffers are overwritten by the next call.
        output = DeviceArray.empty(shape, np.dtype(self._output.dtype), self._device)
        with self._lock:
            self._stream.activate()
            for part in _parts(len(batch), self._largest):
                self._run(batch[part], output[part])
        return output

    def _run(self, rows: Array, output: DeviceArray) -> None:
        """Runs at most as many rows as the profile's largest batch."""
        # A device array is complete, so this stream may read it without waiting for the one that wrote it.
        if isinstance(rows, DeviceArray):
            self._stream.copy(rows.address, self._source.address, rows.nbytes)
        else:
            # The name keeps the contiguous copy alive until the stream is synchronised; the upload may read it until
            # then.
            self._stream.upload(rows := np.ascontiguousarray(rows), self._source.address)
        # A batch below the profile's smallest runs at the smallest. The rows beyond its own hold old memory, which is
        # harmless: rows are independent, and only the batch's own results are copied.
        shape = self._input.shape(batch=max(len(rows), self._smallest))
        accepted = self._context.set_input_shape(self._input.name, shape)
        if not (accepted and self._context.execute_async_v3(self._stream.handle)):
            rule = f"{self._name} failed on a batch of shape {shape}: {self._log.reason()}"
            raise DeviceError.of("device", str(self._device), rule, "try a smaller --batch-size")
        # The engine cannot write to `output` directly: it computes at least the profile's smallest batch, for which
        # `output` may be too short. Synchronising completes the output and frees the buffers for the next call.
        self._stream.copy(self._result.address, output.address, output.nbytes)
        self._stream.synchronize()


def import_tensorrt(product: Product) -> Any:
    """Returns the Python module of a product.

    Raises:
        MissingDependencyError: The product is not installed, or its libraries cannot be loaded.
    """
    name = _MODULES[product]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        rule = f"is needed for {product} engines"
        raise MissingDependencyError.of(name, one_line(str(error)), rule, _remedy(product)) from None


def _remedy(product: Product) -> str:
    if product == "trt-rtx":
        return install_command("rtx")
    return f"on a machine with an NVIDIA GPU, {install_command('trt')}, which downloads from NVIDIA's package index"


def collect_errors(trt: Any) -> Any:
    """Returns a logger for TensorRT's objects, which report a failure by a log entry and a None.

    It forwards every entry to this module's logger at debug level. Its ``reason()`` returns, on one line, the first
    error since the last call: later errors are consequences of the first.
    """

    # The class is defined here because its base exists only once a product has been imported.
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


def _interface_of(trt: Any, engine: Any) -> GraphInterface:
    """Reads an engine's inputs and outputs; -1 stands for a dynamic axis, of which graphs have one."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        axes = tuple(BATCH if axis == -1 else int(axis) for axis in engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(TensorSpec(name, dtype, axes))
    return GraphInterface(tuple(inputs), tuple(outputs))


def _parts(rows: int, largest: int) -> Iterator[slice]:
    """Yields slices of at most `largest` rows that together cover `rows` rows in order."""
    return (slice(start, min(start + largest, rows)) for start in range(0, rows, largest))
