"""Runs ONNX graphs with ONNX Runtime, on the CPU or through its CUDA provider."""

import contextlib
import itertools
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import Device
from vis4mer.devices.failures import failed_run
from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.packages import install_command
from vis4mer.runtime.backends.base import Graph, failed_load
from vis4mer.runtime.interface import GraphInterface, TensorSpec

# Log severity of ONNX Runtime. Its errors also arrive as exceptions, so logging them would print them twice.
_FATAL = 4

# Calls on a GPU of which one waits for it; see `_run_options`.
_CALLS_PER_WAIT = 32

# A file with a line, and the signature of the function there: "/path/cuda_call.cc:146 void f(int) [with T = float] ".
_SOURCE_PLACE = re.compile(r"/\S+:[0-9]+ .*?\)(?: const)?(?: \[with .*?\])? ")

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
            raise failed_load(graph.name, device, "ONNX Runtime", _reason(error)) from None
        # ONNX Runtime drops a provider whose libraries it cannot load, and creates the session with the CPU alone.
        if device.kind == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError.of(
                "device",
                str(device),
                "ONNX Runtime finds no matching CUDA and cuDNN libraries",
                f"{install_command('cuda')}, or use --device cpu or auto",
            )
        found = GraphInterface(_specs(self._session.get_inputs()), _specs(self._session.get_outputs()))
        graph.require_interface(found)
        self._name, self._device = graph.name, device
        self._input, self._output = graph.interface.input, graph.interface.output
        # With a stream of ours, all calls of the CUDA provider share one handle of cuDNN and one of cuBLAS, which only
        # one thread may use at a time. The GPU executes one call after the other anyway.
        self._lock = threading.Lock()
        self._run_options = _run_options(runtime)

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph; see `Runner`."""
        try:
            if self._device.kind == "cpu":
                result: Array = self._session.run(None, {self._input.name: batch})[0]
                return result
            return self._run_on_device(batch)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise failed_run(self._name, self._device, tuple(batch.shape), _reason(error)) from None

    def _run_on_device(self, batch: Array) -> DeviceArray:
        """Queues the graph on the device's stream, from device memory into device memory.

        Every step is queued on that one stream, in this order: the allocation of both arrays and the upload, by this
        package; the graph's kernels, by the CUDA provider, which got the stream when the session was created; the
        release of the batch, once nobody refers to it any more; and whatever the caller does with the result. So the
        host waits for nothing, and no memory is reused while queued work still needs it. The provider's own memory for
        intermediate results is safe for the same reason: it passes from call to call along the same stream.
        """
        source = batch if isinstance(batch, DeviceArray) else DeviceArray.upload(batch, self._device)
        result = DeviceArray.empty(self._output.shape(batch=len(source)), np.dtype(self._output.dtype), self._device)
        # A binding holds the addresses of one call.
        binding, place = self._session.io_binding(), (self._device.kind, self._device.index)
        binding.bind_input(self._input.name, *place, source.dtype, source.shape, source.address)
        binding.bind_output(self._output.name, *place, result.dtype, result.shape, result.address)
        with self._lock:
            self._session.run_with_iobinding(binding, next(self._run_options))
        return result


def _run_options(runtime: ModuleType) -> Iterator[Any]:
    """Yields the options of each call on a GPU: most calls return without waiting for it."""
    waiting, queueing = runtime.RunOptions(), runtime.RunOptions()
    queueing.add_run_config_entry("disable_synchronize_execution_providers", "1")
    # The provider copies the arguments of batched matrix products from page-locked memory, which it only takes back at
    # the end of a call that waits. Without one now and then, a server would run out of memory.
    return itertools.cycle([*[queueing] * (_CALLS_PER_WAIT - 1), waiting])


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


def _reason(error: Exception) -> str:
    """Returns an exception's message without the places in ONNX Runtime's sources, often longer than the rest."""
    return _SOURCE_PLACE.sub("", str(error))


def _providers(runtime: ModuleType, device: Device) -> list[Any]:
    if device.kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        remedy = "pip install onnxruntime-gpu in its place, or use --device cpu or auto"
        raise DeviceError.of("device", str(device), "this ONNX Runtime is built without CUDA", remedy)
    with contextlib.redirect_stdout(None):  # preload_dlls prints the names of missing libraries
        runtime.preload_dlls(directory="")  # loads the CUDA and cuDNN libraries of NVIDIA's Python packages
    settings = {
        "device_id": device.index,
        "user_compute_stream": stream_of(device).handle,
        "use_tf32": 0,
        # By default, convolutions are timed in every process and for every batch size, and whichever algorithm wins is
        # used, so that results could differ in their last bits from run to run.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    return [("CUDAExecutionProvider", settings), "CPUExecutionProvider"]


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
