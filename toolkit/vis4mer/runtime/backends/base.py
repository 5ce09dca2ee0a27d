"""The interface between this package and its backends: graphs, the backends that open them, and runners."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vis4mer.devices.arrays import Array, on_host
from vis4mer.devices.device import Device
from vis4mer.devices.failures import remedy
from vis4mer.errors import BundleError, DeviceError, Vis4merError
from vis4mer.runtime.interface import BATCH, GraphInterface, shown
from vis4mer.text import first_line


@dataclass(frozen=True)
class Graph:
    """One exported graph, as a backend opens it.

    Most formats are programs, so whoever makes this object must have checked the digest of its bytes.

    Attributes:
        name: ``encoder`` or a head's name; errors quote it.
        interface: Inputs and outputs that the graph must have.
        data: Content of the graph's file.
        companions: Content of the files that belong to it, by file name, such as the weights of a large ONNX graph.
    """

    name: str
    interface: GraphInterface
    data: bytes
    companions: Mapping[str, bytes] = field(default_factory=dict)

    def require_interface(self, found: GraphInterface) -> None:
        """Compares the interface that a backend has found in the graph with the stated one.

        Raises:
            BundleError: They differ.
        """
        if not self.interface.same_as(found):
            rule = f"the file holds {found}, but the manifest states {self.interface}"
            raise BundleError.of("graph", self.name, rule, "export it again")


class Runner(Protocol):
    """Executes one graph on one backend and device.

    Batches are arrays as `GraphInterface.input` states, on the host or on the runner's device. Results are arrays as
    `GraphInterface.output` states, on the runner's device.

    On a GPU, a runner queues its work on the device's stream and may return before the work is done: arrays on the
    device are complete in the order of that stream, both the batch and the result.
    """

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph.

        Raises:
            BundleError: The batch or the result is not what the graph's interface states.
            DeviceError: The device failed, most often for lack of memory. Failures of earlier work on a GPU may show
                here, too.
        """
        ...


class Backend(Protocol):
    """Opens the graphs of one format."""

    @property
    def format(self) -> str:
        """Name of the format, as in the manifest."""
        ...

    def open(self, graph: Graph, device: Device) -> Runner:
        """Loads a graph onto a device.

        Raises:
            BundleError: The graph cannot be loaded, or has another interface.
            DeviceError: The device is absent, or not the one the graph was built for.
            MissingDependencyError: The backend is not installed.
        """
        ...


def failed_load(graph: str, device: Device, library: str, reason: str) -> Vis4merError:
    """Builds the error for a graph that a library cannot load.

    Args:
        graph: Name of the graph.
        device: Device to load it onto.
        library: Name and version of the library.
        reason: Message of the library; its first line is quoted.

    Returns:
        The error, for the caller to raise: a BundleError on the CPU, where a load fails because of the graph. On a GPU
        it fails because of the device as a rule, and so it is a DeviceError; a damaged graph fails on the CPU as well.
    """
    kind = BundleError if device.kind == "cpu" else DeviceError
    return kind.of("graph", graph, f"{library} cannot load it on {device}: {first_line(reason)}", remedy(reason))


class CheckedRunner:
    """A runner that compares batches and results with the graph's interface, so that no backend has to.

    Args:
        run: Runner of a backend.
        graph: Name of the graph, for errors.
        interface: Interface of the graph.
    """

    def __init__(self, run: Runner, graph: str, interface: GraphInterface) -> None:
        self._run, self._graph, self._interface = run, graph, interface

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph; see `Runner`."""
        source, target = self._interface.input, self._interface.output
        sizes = source.dynamic_sizes(batch)
        if sizes is None:
            raise BundleError.of("graph", self._graph, f"takes {source}, not {shown(batch)}")
        result = self._run(batch)
        if result.dtype != target.dtype or tuple(result.shape) != target.shape(**sizes):
            raise BundleError.of("graph", self._graph, f"returned {shown(result)}, not {target}", "export it again")
        return result

    def warm_up(self) -> None:
        """Runs one row of zeros and waits for the result.

        On a GPU, much may fail only in the first batch: libraries are loaded when an operator first needs them, memory
        is reserved, and machine code for another type of GPU is refused. Running a batch while the model is loaded
        shows this when ``auto`` can still use the CPU, and before any movie has been decoded.

        Raises:
            BundleError: The result is not what the graph's interface states.
            DeviceError: The device cannot run the graph.
        """
        source = self._interface.input
        # Only the batch has a size that suits every graph: another dynamic axis may not take a 1.
        if {axis for axis in source.axes if isinstance(axis, str)} == {BATCH}:
            on_host(self(np.zeros(source.shape(**{BATCH: 1}), source.dtype)))
