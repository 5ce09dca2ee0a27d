"""The interface between this package and its backends: graphs, the backends that open them, and runners."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vis4mer.devices.arrays import Array
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError
from vis4mer.runtime.interface import GraphInterface, shown


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
    """

    def __call__(self, batch: Array, /) -> Array:
        """Runs the graph.

        Raises:
            BundleError: The batch or the result is not what the graph's interface states.
            DeviceError: The device failed, most often for lack of memory.
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
