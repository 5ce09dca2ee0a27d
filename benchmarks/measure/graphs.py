"""Parts of a model as graphs of an export format."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.interface import BATCH, GraphInterface, TensorSpec
from vis4mer.runtime.manifest import Precision
from vis4mer_export.targets import registry
from vis4mer_export.targets.base import GraphSource


def export_graph(module: nn.Module, format: str, example: Tensor, precision: Precision = "fp32") -> tuple[Runner, int]:
    """Writes a module in an export format and opens it on the CPU.

    Args:
        module: Module in evaluation mode, with one input and one output.
        format: Name of a target.
        example: Batch of at least two inputs.
        precision: Precision in which the module computes its matrix products.

    Returns:
        The graph's runner, and its size in bytes.
    """
    target = registry.target(format)
    with torch.inference_mode():
        result = module(example)
    interface = GraphInterface((_spec("x", example),), (_spec("y", result),))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"graph.{target.suffix}"
        source = GraphSource("graph", module, example, interface, precision)
        return target.build(source, path, target.parse_options({})).run, path.stat().st_size


def _spec(name: str, batch: Tensor) -> TensorSpec:
    return TensorSpec(name, batch.numpy().dtype.name, (BATCH, *batch.shape[1:]))
