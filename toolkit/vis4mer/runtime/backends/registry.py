"""The backends by the format that they read: the built-in ones, those of plug-ins, and registered ones."""

from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError
from vis4mer.plugins import load_plugins
from vis4mer.runtime.backends.base import Backend, CheckedRunner, Graph, Runner
from vis4mer.runtime.backends.onnx import OnnxBackend
from vis4mer.runtime.backends.pt2 import Pt2Backend
from vis4mer.runtime.backends.tensorrt import TensorRTBackend
from vis4mer.runtime.backends.torchscript import TorchScriptBackend

_BUILT_IN: tuple[Backend, ...] = (
    OnnxBackend(),
    TorchScriptBackend(),
    Pt2Backend(),
    TensorRTBackend("trt"),
    TensorRTBackend("trt-rtx"),
)
_backends = {backend.format: backend for backend in _BUILT_IN}


def register(backend: Backend) -> None:
    """Registers a backend, which then opens the bundles of its format.

    Raises:
        ConfigError: Another backend reads the format.
    """
    if _backends.setdefault(backend.format, backend) is not backend:
        raise ConfigError.of("format", backend.format, "another backend already reads it", "choose another name")


def backend(format: str) -> Backend:
    """Returns the backend that reads a format.

    Raises:
        ConfigError: No backend does.
    """
    name = format if isinstance(format, str) else ""  # a damaged manifest may hold anything
    if name not in _backends:
        load_plugins()
    if name not in _backends:
        raise ConfigError.of("format", format, f"must be one of {', '.join(_backends)}")
    return _backends[name]


def open_with(backend: Backend, graph: Graph, device: Device) -> Runner:
    """Loads a graph whose bytes are trusted, since most formats are programs; on a GPU, also runs it once.

    Args:
        backend: Backend of the graph's format.
        graph: Graph to load.
        device: Device to run on.

    Raises:
        BundleError: The backend cannot load the graph, or the graph has another interface.
        DeviceError: The device is absent, cannot run the graph, or is not the one that the graph was built for.
        MissingDependencyError: The backend is not installed.
    """
    runner = CheckedRunner(backend.open(graph, device), graph.name, graph.interface)
    if device.kind == "cuda":
        runner.warm_up()
    return runner
