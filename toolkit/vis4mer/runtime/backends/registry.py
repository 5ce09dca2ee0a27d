"""A bundle's graphs, each run by the runner of the bundle's format."""

from vis4mer.devices.device import Device
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.onnx import EXTERNAL_SUFFIX, OnnxRunner
from vis4mer.runtime.backends.pt2 import pt2_runner
from vis4mer.runtime.backends.tensorrt import TensorRTRunner
from vis4mer.runtime.backends.torchscript import torchscript_runner
from vis4mer.runtime.bundle import Bundle, Format


def open_graph(bundle: Bundle, name: str, device: Device) -> Runner:
    """Loads one graph of a bundle, once its digest is the manifest's.

    Args:
        bundle: that holds it.
        name: ``encoder`` or a head's.
        device: to run on.

    Raises:
        BundleError: the file is missing or altered, or its backend cannot load it.
        DeviceError: the device is absent or not the one the graph was built for.
        MissingDependencyError: the backend is not installed.
    """
    file = bundle.file_of(name)
    external = file + EXTERNAL_SUFFIX
    weights = bundle.read(external) if external in bundle.files else b""
    return graph_runner(bundle.format, bundle.read(file), name, device, weights=weights)


def graph_runner(format: Format, data: bytes, name: str, device: Device, *, weights: bytes = b"") -> Runner:
    """Loads a graph from bytes that are trusted: all formats but ONNX are programs.

    Args:
        format: of `data`.
        data: the file's bytes.
        name: of the graph, for errors.
        device: to run on.
        weights: of an ONNX graph that keeps them in a file of its own.

    Raises:
        BundleError, DeviceError, MissingDependencyError: see `open_graph`.
    """
    match format:
        case "onnx":
            return OnnxRunner(data, name, device, weights=weights)
        case "torchscript":
            return torchscript_runner(data, name, device)
        case "pt2":
            return pt2_runner(data, name, device)
        case "trt" | "trt-rtx":
            return TensorRTRunner(data, name, device, format)
