"""Runs engines of TensorRT and of TensorRT for RTX: two products with one Python API."""

import hashlib
import importlib
import logging
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import Device
from vis4mer.devices.failures import failed_run, remedy
from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.packages import install_command
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.interface import BATCH, GraphInterface, TensorSpec
from vis4mer.text import one_line
from vis4mer.user_cache import read_cached, write_cached

logger = logging.getLogger(__name__)

Product = Literal["trt", "trt-rtx"]

# TensorRT reads and writes tensors at such addresses only.
_ALIGNMENT = 256  # bytes

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
    """One engine with one input and one output; safe to call from several threads.

    An engine takes batches of the sizes in its optimisation profile. A larger batch is run in parts, and a smaller one
    at the smallest size. Everything is queued on the device's stream, and a call returns before it is done.

    Between calls, a runner holds no memory but the engine's weights: activations and copies of batches are allocated
    for each call, from memory that the driver keeps for the stream. So all engines of a bundle share it, in the
    stream's order, and the largest of them determines how much there is.

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
            rule, use = "TensorRT engines run on NVIDIA GPUs only", "use --device cuda, or export with --format onnx"
            raise DeviceError.of("device", str(device), rule, use)
        trt = import_tensorrt(product)
        self._name, self._device = graph.name, device
        # An execution context holds the shapes and addresses of one call, so calls must take turns.
        self._lock, self._log = threading.Lock(), collect_errors(trt)
        self._stream = stream_of(device)
        self._stream.activate()  # TensorRT loads an engine onto the GPU that is current
        engine = self._load(trt, graph.data)
        # Checked first, because the calls below look tensors up by the interface's names.
        graph.require_interface(_interface_of(trt, engine))
        self._input, self._output = graph.interface.input, graph.interface.output
        smallest, _, largest = engine.get_tensor_profile_shape(self._input.name, 0)
        self._smallest, self._largest = int(smallest[0]), int(largest[0])
        self._activation_bytes = engine.device_memory_size_v2
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._kernels = KernelCache(engine, strategy, graph.data) if product == "trt-rtx" else None
        self._context = engine.create_execution_context(self._kernels.config if self._kernels else strategy)
        if self._context is None:
            reason = self._log.reason()
            raise DeviceError.of("device", str(device), f"{graph.name} cannot be prepared: {reason}", remedy(reason))
        if self._kernels is not None:
            # Further kernels are compiled whenever a shape first occurs, so the last ones are known at the end only.
            weakref.finalize(self, self._kernels.save)

    def _load(self, trt: Any, data: bytes) -> Any:
        try:
            runtime = trt.Runtime(self._log)
        except TypeError:  # raised by the constructor if CUDA fails
            engine = None
        else:
            # A version-compatible engine contains the code of its own runtime. Every engine is a program, and the
            # digest of the file has been checked.
            runtime.engine_host_code_allowed = True
            engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            reason = self._log.reason()
            rule = f"{trt.__name__} {trt.__version__} cannot load the engine {self._name}: {reason}"
            bound = "engines are bound to the GPU type and the version they were built with; export on this machine"
            raise DeviceError.of("device", str(self._device), rule, remedy(reason) or bound)
        return engine

    def __call__(self, batch: Array, /) -> DeviceArray:
        """Runs the graph; see `Runner`."""
        output = self._empty(self._output, len(batch))  # activates the stream's GPU
        for part in _parts(len(batch), self._largest):
            self._run(batch[part], output[part])
        if self._kernels is not None and not self._kernels.saved:
            self._kernels.save()
        return output

    def _run(self, rows: Array, output: DeviceArray) -> None:
        """Queues at most as many rows as the profile's largest batch."""
        # A batch below the profile's smallest runs at the smallest. The rows beyond its own hold old memory, which is
        # harmless: rows are independent, and only the batch's own results are copied.
        size = max(len(rows), self._smallest)
        source = self._source(rows, size)
        in_place = len(rows) == size and _is_aligned(output)
        result = output if in_place else self._empty(self._output, size)
        # Released when this method returns, which is safe: the stream reuses memory for later work only.
        activations = self._stream.allocate(self._activation_bytes)
        with self._lock:
            context = self._context
            context.set_device_memory(activations.address, self._activation_bytes)
            done = (
                context.set_input_shape(self._input.name, source.shape)
                and context.set_tensor_address(self._input.name, source.address)
                and context.set_tensor_address(self._output.name, result.address)
                and context.execute_async_v3(self._stream.handle)
            )
        if not done:
            raise failed_run(self._name, self._device, source.shape, self._log.reason())
        if not in_place:
            self._stream.copy(result.address, output.address, output.nbytes)

    def _source(self, rows: Array, size: int) -> DeviceArray:
        """Returns an input of `size` rows, of which the first are `rows`: the batch itself where TensorRT takes it."""
        if isinstance(rows, DeviceArray) and len(rows) == size and _is_aligned(rows):
            return rows
        source = self._empty(self._input, size)
        if isinstance(rows, DeviceArray):
            self._stream.copy(rows.address, source.address, rows.nbytes)
        else:
            self._stream.upload(np.ascontiguousarray(rows), source.address)
        return source

    def _empty(self, tensor: TensorSpec, rows: int) -> DeviceArray:
        return DeviceArray.empty(tensor.shape(batch=rows), np.dtype(tensor.dtype), self._device)


class KernelCache:
    """The kernels that TensorRT for RTX compiles for the GPU at hand, kept in the user's cache folder.

    Engines of this product hold no machine code. Without the cache, every process would compile it anew, which takes
    seconds. The product rejects a file that another GPU, driver or version has written; it is then replaced.

    Args:
        engine: Engine to compile kernels for.
        strategy: Allocation strategy of the execution context.
        data: Serialised engine.

    Attributes:
        config: Configuration for the execution context.
        saved: Whether `save` has been called.
    """

    def __init__(self, engine: Any, strategy: Any, data: bytes) -> None:
        self.config, self.saved = engine.create_runtime_config(), False
        self.config.set_execution_context_allocation_strategy(strategy)
        # Each engine has a file of its own, so that processes with other engines do not replace it.
        self._name = f"rtx-kernels-{hashlib.sha256(data).hexdigest()}"
        self._cache = self.config.create_runtime_cache()
        self._stored = read_cached(self._name)
        if self._stored and not self._cache.deserialize(self._stored):
            logger.debug("the cached kernels %s are of another GPU, driver or version", self._name)
        self.config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Writes the kernels to the file, unless it holds them already."""
        self.saved = True
        compiled = self._cache.serialize()
        if compiled is not None and bytes(compiled) != self._stored:
            self._stored = bytes(compiled)
            write_cached(self._name, self._stored)


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


def _is_aligned(array: DeviceArray) -> bool:
    return array.address % _ALIGNMENT == 0
