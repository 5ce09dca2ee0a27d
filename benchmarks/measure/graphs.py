"""Parts of a model as graphs of an export format."""

import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measure.devices import held_bytes, run_once
from vis4mer.devices.arrays import Array
from vis4mer.devices.device import CPU, Device
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.interface import BATCH, GraphInterface, TensorSpec
from vis4mer.runtime.manifest import Precision
from vis4mer_export.targets import registry
from vis4mer_export.targets.base import GraphSource, Target, open_written


class ExportedGraph(NamedTuple):
    """A graph that has been written and opened.

    Attributes:
        run: Runner of the graph.
        file_bytes: Size of the graph's file.
        device_bytes: Memory of the GPU that the runner holds after a run; None on the CPU.
    """

    run: Runner
    file_bytes: int
    device_bytes: int | None = None


def export_graph(
    module: nn.Module,
    format: str,
    example: Tensor,
    precision: Precision = "fp32",
    device: Device = CPU,
    batch: Array | None = None,
) -> ExportedGraph:
    """Writes a module in an export format and opens it.

    Args:
        module: Module in evaluation mode, on the CPU, with one input and one output.
        format: Name of a target.
        example: Batch of at least two inputs.
        precision: Precision in which the module computes its matrix products.
        device: Device that runs the graph.
        batch: Largest batch that a GPU will run, on that GPU. Engines are built for up to as many inputs.

    Raises:
        BundleError: The graph cannot be loaded.
        ConfigError: The target does not support an option.
        DeviceError: The device failed.
        ExportError: The module cannot be written in this format.
        MissingDependencyError: The format's tools are not installed.
    """
    target = registry.target(format)
    with torch.inference_mode():
        result = module(example)
    interface = GraphInterface((_spec("x", example),), (_spec("y", result),))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"graph.{target.suffix}"
        source = GraphSource("graph", module, example, interface, precision)
        settings = target.parse_options(_options(target, device, batch))
        target.check(settings)
        # The runner that the build returns serves to verify the graph, and may be on another device.
        built = target.build(source, path, settings).run
        size = path.stat().st_size
        if device.kind == "cpu" or batch is None:
            return ExportedGraph(built, size)
        del built
        opened = partial(open_written, target, source, path, device)
        run, held = held_bytes(partial(run_once, opened, batch), device)
        return ExportedGraph(run, size, held)


def _options(target: Target, device: Device, batch: Array | None) -> dict[str, object]:
    """Returns the values of those options that the target has."""
    values: dict[str, object] = {"device": device.kind}
    if batch is not None:
        values["batch_size"] = f"1:{len(batch)}:{len(batch)}"
    return {option.name: values[option.name] for option in target.options if option.name in values}


def _spec(name: str, batch: Tensor) -> TensorSpec:
    return TensorSpec(name, batch.numpy().dtype.name, (BATCH, *batch.shape[1:]))
