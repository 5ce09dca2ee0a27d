"""Runs ONNX graphs with ONNX Runtime, on the CPU or through its CUDA provider."""

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, DeviceError, MissingDependencyError
from vis4mer.text import one_line

_FATAL = 4  # ONNX Runtime's log severity; its errors also come as exceptions, which say the same once

_NO_CUDA_LIBRARIES = (
    "ONNX Runtime finds no fitting CUDA and cuDNN libraries; pip install 'onnxruntime-gpu[cuda,cudnn]', "
    "or use --device cpu or auto"
)


EXTERNAL_SUFFIX = ".data"  # of the file beside a graph that holds the weights of a model beyond 2 GiB


class OnnxRunner:
    """One ONNX graph with one input and one output; safe to call from several threads.

    Args:
        graph: serialised ONNX model.
        name: of the graph, for errors.
        device: to run on.
        weights: content of the file ``<name>.onnx.data``, of a graph that keeps its weights there; any other file that
            the graph refers to is refused.

    Raises:
        BundleError: the graph is not one that ONNX Runtime can load.
        DeviceError: ONNX Runtime cannot use the device.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(self, graph: bytes, name: str, device: Device, *, weights: bytes = b"") -> None:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = _FATAL
        # A graph may name files to read its weights from, "../../" included. No file lies below a device file.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        if weights:
            options.add_external_initializers_from_files_in_memory(
                [f"{name}.onnx{EXTERNAL_SUFFIX}"], [weights], [len(weights)]
            )
        try:
            self._session = runtime.InferenceSession(
                graph, options, providers=_providers(runtime, device), enable_fallback=False
            )
        except DeviceError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            kind = BundleError if device.kind == "cpu" else DeviceError
            reason = one_line(str(error))
            if "NOT_IMPLEMENTED" in reason:  # bf16 products on a CPU, for one
                reason += "; export it with --precision fp32 for this device"
            raise kind(f"graph={name!r}: ONNX Runtime cannot load it on {device}: {reason}") from None
        if device.kind == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(f"device={str(device)!r}: {_NO_CUDA_LIBRARIES}")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            rule = f"must have one input and one output, not {len(inputs)} and {len(outputs)}; export it again"
            raise BundleError(f"graph={name!r}: {rule}")
        self._name, self._device = name, device
        self._input, self._output = inputs[0].name, outputs[0].name

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph; see `Runner`."""
        try:
            if self._device.kind == "cpu":
                result: Array = self._session.run(None, {self._input: batch})[0]
                return result
            return self._run_on_device(batch)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            rule = f"{self._name} failed on a batch of shape {batch.shape}: {one_line(str(error))}"
            raise DeviceError(f"device={str(self._device)!r}: {rule}; try a smaller --batch-size") from None

    def _run_on_device(self, batch: Array) -> DeviceArray:
        binding = self._session.io_binding()
        place = (self._device.kind, self._device.index)
        if isinstance(batch, DeviceArray):
            binding.bind_input(self._input, *place, batch.dtype, batch.shape, batch.address)
        else:
            binding.bind_cpu_input(self._input, np.ascontiguousarray(batch))
        binding.bind_output(self._output, *place)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        (value,) = binding.get_outputs()
        # The memory is the session's, which therefore must live as long.
        owner = (value, self._session)
        return DeviceArray(value.data_ptr(), tuple(value.shape()), np.dtype(np.float32), self._device, owner)


def import_onnxruntime() -> ModuleType:
    """Imports ONNX Runtime without the warnings it prints while it looks for GPUs.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        with _silent_stderr():
            import onnxruntime
    except ImportError as error:
        rule = "is needed to run ONNX bundles; pip install onnxruntime-gpu (x86-64 Linux) or onnxruntime"
        raise MissingDependencyError(f"onnxruntime={error.msg!r}: {rule}") from None
    onnxruntime.set_default_logger_severity(_FATAL)
    module: ModuleType = onnxruntime
    return module


def _providers(runtime: ModuleType, device: Device) -> list[Any]:
    if device.kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        rule = "this ONNX Runtime is built without CUDA; pip install onnxruntime-gpu, or use --device cpu or auto"
        raise DeviceError(f"device={str(device)!r}: {rule}")
    with contextlib.redirect_stdout(None):  # it prints what it does not find
        runtime.preload_dlls(directory="")  # finds the CUDA and cuDNN libraries of NVIDIA's Python packages
    return [("CUDAExecutionProvider", {"device_id": device.index, "use_tf32": 0}), "CPUExecutionProvider"]


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops what native code writes to stderr; Python offers no other way to quiet a library before it is loaded."""
    if sys.stderr is None or "onnxruntime" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
