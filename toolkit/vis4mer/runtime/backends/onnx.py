"""Runs ONNX graphs with ONNX Runtime, on the CPU or through its CUDA provider."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, DeviceError, MissingDependencyError, Vis4merError
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.interface import GraphInterface, TensorSpec
from vis4mer.text import one_line

# Log severity of ONNX Runtime. Its errors also arrive as exceptions, so logging them would print them twice.
_FATAL = 4

# NumPy's names for the element types that ONNX Runtime names differently.
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


class OnnxBackend:
    """Opens ONNX graphs."""

    format = "onnx"

    def open(self, graph: Graph, device: Device) -> "OnnxRunner":
        """Loads the graph; see `Backend`."""
        return OnnxRunner(graph, device)


class OnnxRunner:
    """One ONNX graph with one input and one output; safe to call from several threads.

    Args:
        graph: Graph to run. Its weights may lie in its companions; any other file that it refers to is rejected.
        device: Device to run on.

    Raises:
        BundleError: ONNX Runtime cannot load the graph, or the graph has another interface.
        DeviceError: ONNX Runtime cannot use the device.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(self, graph: Graph, device: Device) -> None:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = _FATAL
        # A graph may name files to read its weights from, "../../" included. No file lies below a device file.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        if graph.companions:
            names, contents = list(graph.companions), list(graph.companions.values())
            options.add_external_initializers_from_files_in_memory(names, contents, [len(data) for data in contents])
        try:
            # With its fallback, a session that fails on a GPU would continue on the CPU, and the reported device would
            # be wrong.
            self._session = runtime.InferenceSession(
                graph.data, options, providers=_providers(runtime, device), enable_fallback=False
            )
        except DeviceError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise _load_error(graph.name, device, one_line(str(error))) from None
        # ONNX Runtime drops a provider whose libraries it cannot load, and creates the session with the CPU alone.
        if device.kind == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError.of(
                "device",
                str(device),
                "ONNX Runtime finds no matching CUDA and cuDNN libraries",
                "pip install 'onnxruntime-gpu[cuda,cudnn]', or use --device cpu or auto",
            )
        found = GraphInterface(_specs(self._session.get_inputs()), _specs(self._session.get_outputs()))
        graph.require_interface(found)
        self._name, self._device = graph.name, device
        self._input, self._output = graph.interface.input, graph.interface.output

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph; see `Runner`."""
        try:
            if self._device.kind == "cpu":
                result: Array = self._session.run(None, {self._input.name: batch})[0]
                return result
            return self._run_on_device(batch)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            rule = f"{self._name} failed on a batch of shape {batch.shape}: {one_line(str(error))}"
            raise DeviceError.of("device", str(self._device), rule, "try a smaller --batch-size") from None

    def _run_on_device(self, batch: Array) -> DeviceArray:
        # A binding belongs to one call, so several threads can run the session at the same time.
        binding = self._session.io_binding()
        place = (self._device.kind, self._device.index)
        if isinstance(batch, DeviceArray):
            binding.bind_input(self._input.name, *place, batch.dtype, batch.shape, batch.address)
        else:
            binding.bind_cpu_input(self._input.name, np.ascontiguousarray(batch))
        # Without an address, ONNX Runtime allocates the output on the device itself.
        binding.bind_output(self._output.name, *place)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        (value,) = binding.get_outputs()
        # The session owns the result's memory, so the array keeps both alive.
        owner = (value, self._session)
        return DeviceArray(value.data_ptr(), tuple(value.shape()), np.dtype(self._output.dtype), self._device, owner)


def import_onnxruntime() -> ModuleType:
    """Imports ONNX Runtime without its telemetry, and without the warnings that it prints while it looks for GPUs.

    Since version 1.29, its packages for Linux and macOS report devices, sessions, models and errors to Microsoft. Only
    this variable of the environment, read while the library is loaded, prevents it completely; a value that the user
    has set is kept.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        with _silent_stderr():
            import onnxruntime
    except ImportError as error:
        remedy = "pip install onnxruntime-gpu (x86-64 Linux) or onnxruntime"
        raise MissingDependencyError.of("onnxruntime", error.msg, "is needed to run ONNX bundles", remedy) from None
    onnxruntime.set_default_logger_severity(_FATAL)
    module: ModuleType = onnxruntime
    return module


def _specs(values: Iterable[Any]) -> tuple[TensorSpec, ...]:
    """Converts a session's inputs or outputs; a dynamic axis is a name in ONNX Runtime, or None if it has no name."""
    specs = []
    for value in values:
        element_type = value.type.removeprefix("tensor(").removesuffix(")")
        axes = tuple("dynamic" if axis is None else axis for axis in value.shape)
        specs.append(TensorSpec(value.name, _NUMPY_NAMES.get(element_type, element_type), axes))
    return tuple(specs)


def _load_error(name: str, device: Device, reason: str) -> Vis4merError:
    # On the CPU a load fails because of the graph; on a GPU, as a rule, because of the device.
    kind = BundleError if device.kind == "cpu" else DeviceError
    # ONNX Runtime's CPU provider has no kernels for bf16 products, for example.
    remedy = "export it with --precision fp32 for this device" if "NOT_IMPLEMENTED" in reason else ""
    return kind.of("graph", name, f"ONNX Runtime cannot load it on {device}: {reason}", remedy)


def _providers(runtime: ModuleType, device: Device) -> list[Any]:
    if device.kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        remedy = "pip install onnxruntime-gpu, or use --device cpu or auto"
        raise DeviceError.of("device", str(device), "this ONNX Runtime is built without CUDA", remedy)
    with contextlib.redirect_stdout(None):  # preload_dlls prints the names of missing libraries
        runtime.preload_dlls(directory="")  # loads the CUDA and cuDNN libraries of NVIDIA's Python packages
    return [("CUDAExecutionProvider", {"device_id": device.index, "use_tf32": 0}), "CPUExecutionProvider"]


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops what native code writes to stderr; Python offers no other way to quiet a library before it is loaded."""
    if sys.stderr is None or "onnxruntime" in sys.modules:
        yield
        return
    # Text that Python still buffers would otherwise be dropped with the rest. Native code writes to the descriptor
    # itself, so replacing sys.stderr would not silence it.
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
