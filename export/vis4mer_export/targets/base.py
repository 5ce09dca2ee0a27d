"""The interface of an export target: its format, how it writes a graph and how the result is verified.

Command-line options are derived from targets, so neither this module nor a target's may import PyTorch, ONNX or
TensorRT outside of its methods.
"""

import abc
import contextlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

from vis4mer.errors import ConfigError
from vis4mer.version import __version__
from vis4mer_export.longconv import Lowering, RequestedLowering

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vis4mer.devices.device import Device
    from vis4mer.runtime.backends.base import Backend, Runner
    from vis4mer.runtime.interface import GraphInterface
    from vis4mer.runtime.manifest import Precision


@dataclass(frozen=True)
class TargetOption:
    """An option that only some targets take.

    Attributes:
        name: Keyword of `vis4mer.export`, such as ``batch_size``, which is ``--batch-size`` on the command line.
        metavar: Form of the value, for the help text.
        default: Default value, as text.
        help: Sentence for the help text.
        parse: Converts the text to the value that `Target.build` receives, or raises ConfigError.
    """

    name: str
    metavar: str
    default: str
    help: str
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class GraphSource:
    """What a graph is built from.

    Attributes:
        name: ``encoder`` or a head's name.
        module: Module in evaluation mode, on the CPU, without parameters of a state space.
        example: Batch of inputs. At least two, since tracing would treat an axis of size 1 as a constant.
        interface: Inputs and outputs that the graph must have.
        precision: Precision in which the module computes its matrix products.
    """

    name: str
    module: "nn.Module"
    example: "Tensor"
    interface: "GraphInterface"
    precision: "Precision"


class Obstacle(NamedTuple):
    """Why this machine cannot execute graphs in the form in which an export writes them.

    Attributes:
        reason: The reason, as a main clause without a full stop.
        remedy: How to export graphs that it executes, as an imperative.
    """

    reason: str
    remedy: str


@dataclass(frozen=True)
class Built:
    """A graph that has been written, and the runner that verifies it.

    Attributes:
        run: Runner of the file that was written or, if this machine cannot execute that, of an equivalent graph.
        notes: Further entries for the graph's parity report in the manifest.
        ran: Description of the equivalent graph that `run` runs; empty if it runs the file itself.
        obstacle: Why this machine cannot execute the file; None if `run` runs it.
    """

    run: "Runner"
    notes: Mapping[str, Any] = field(default_factory=dict)
    ran: str = ""
    obstacle: Obstacle | None = None


class Target(abc.ABC):
    """One export format.

    Attributes:
        name: Name of the format, on the command line and in the manifest.
        suffix: Suffix of the graphs' files, without the dot.
        lowerings: Lowerings of the long convolution that the runtime executes well, fastest first.
        precisions: Precisions that the format can express.
        default_precision: Precision of an export that states none.
        precision_reason: Why `default_precision` is not fp32; empty if it is.
        options: Options beyond those that all targets take.
        packages: Distributions whose versions the manifest records.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    lowerings: ClassVar[tuple[Lowering, ...]]
    precisions: ClassVar[tuple["Precision", ...]] = ("fp32", "fp16", "bf16")
    default_precision: ClassVar["Precision"] = "fp32"
    precision_reason: ClassVar[str] = ""
    options: ClassVar[tuple[TargetOption, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    @property
    def backend(self) -> "Backend":
        """Backend that opens the target's graphs; by default the registered one of the same name."""
        from vis4mer.runtime.backends import registry

        return registry.backend(self.name)

    def check(self, settings: Mapping[str, Any]) -> None:  # noqa: B027 - by default there is nothing to check
        """Checks, before any work is done, that this machine can build the target.

        Args:
            settings: Values of the target's options.

        Raises:
            ConfigError: The tools here do not support a setting.
            DeviceError: A device that the build needs is absent.
            MissingDependencyError: A tool is not installed.
        """

    def obstacle(self, precision: "Precision", settings: Mapping[str, Any]) -> Obstacle | None:
        """Returns why this machine cannot execute the graphs as `build` will write them; by default, it can.

        It is called before any work is done. By default, an export does not write graphs that cannot be executed.

        Args:
            precision: Precision of the graphs.
            settings: Values of the target's options.
        """
        return None

    @abc.abstractmethod
    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Writes a graph.

        Args:
            source: What to build.
            path: File to write. Further files of the graph must have this name with another suffix appended.
            settings: Values of the target's options.

        Returns:
            The graph as written, and the runner that verifies it.

        Raises:
            ExportError: The graph cannot be written in this format.
        """

    def tool_versions(self) -> dict[str, str]:
        """Returns the version of each tool that takes part in the export and is installed."""
        known = {"vis4mer": __version__, "python": platform.python_version()}
        for package in self.packages:
            with contextlib.suppress(PackageNotFoundError):
                known[package] = version(package)
        return known

    def candidates(self, requested: RequestedLowering) -> tuple[Lowering, ...]:
        """Returns the lowerings to try, in order of preference.

        Raises:
            ConfigError: The runtime cannot execute the requested lowering.
        """
        if requested == "auto":
            return self.lowerings
        if requested not in self.lowerings:
            known = ", ".join(name for name in get_args(Lowering) if name in self.lowerings)
            raise ConfigError.of("lowering", requested, f"format {self.name} cannot run it", f"use auto, {known}")
        return (requested,)

    def require_precision(self, precision: str) -> None:
        """Checks that the format can express a precision.

        Raises:
            ConfigError: It cannot.
        """
        if precision not in self.precisions:
            known = ", ".join(self.precisions)
            raise ConfigError.of("precision", precision, f"format {self.name} supports {known}")

    def parse_options(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Parses the values given for the target's options.

        Args:
            given: Values by option name; text, or values that `str` turns into it.

        Returns:
            The parsed value of every option of this target; the default's if it is not set.

        Raises:
            ConfigError: An option does not apply to this target, or a value breaks its rule.
        """
        for name, value in given.items():
            if name not in (option.name for option in self.options):
                raise ConfigError.of(name, value, f"format {self.name} does not take this option", "leave it out")
        return {option.name: option.parse(str(given.get(option.name, option.default))) for option in self.options}


def open_written(target: Target, source: GraphSource, path: Path, device: "Device") -> "Runner":
    """Opens the graph at `path` with the target's backend.

    Raises:
        BundleError: The backend cannot load the graph, or the graph has another interface.
        DeviceError: The backend cannot use the device.
    """
    from vis4mer.runtime.backends.base import Graph
    from vis4mer.runtime.backends.registry import open_with

    companions = {file.name: file.read_bytes() for file in path.parent.glob(f"{path.name}.*")}
    return open_with(target.backend, Graph(source.name, source.interface, path.read_bytes(), companions), device)
