"""Proof that an exported graph is the model it was made from: the same inputs through both, compared."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vis4mer.errors import ExportError
from vis4mer.runtime.device import Device
from vis4mer.runtime.onnx import OnnxRunner

# Largest relative L2 error of an exported graph's outputs, in fp32.
TOLERANCE = 1e-4
BATCH_SIZES = (1, 3)


@dataclass(frozen=True)
class Parity:
    """How far one graph's outputs are from the eager model's, the worst over the batch sizes tried.

    Attributes:
        batch_sizes: tried.
        relative_l2: ``|graph - eager| / |eager|`` over all outputs.
        max_abs: largest absolute difference.
        tolerance: that relative_l2 had to keep.
    """

    batch_sizes: tuple[int, ...]
    relative_l2: float
    max_abs: float
    tolerance: float = TOLERANCE


def check_parity(name: str, module: nn.Module, graph: Path, examples: Tensor) -> Parity:
    """Runs a written graph in ONNX Runtime beside its model.

    Args:
        name: of the graph, for errors.
        module: the eager model, before freezing.
        graph: the written file.
        examples: inputs, at least max(BATCH_SIZES) of them.

    Raises:
        ExportError: the outputs' shapes differ, or their values by more than the tolerance, or some are not finite.
    """
    runner = OnnxRunner(graph.read_bytes(), name, Device("cpu"))
    relative, largest = 0.0, 0.0
    for size in BATCH_SIZES:
        batch = examples[:size]
        with torch.inference_mode():
            expected: NDArray[np.float32] = module(batch).numpy()
        actual = runner(batch.numpy())
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            given, wanted = f"{actual.dtype}{actual.shape}", f"{expected.dtype}{expected.shape}"
            raise ExportError(f"graph={name!r}: gives {given} where the model gives {wanted}")
        difference = actual.astype(np.float64) - expected
        error = float(np.linalg.norm(difference) / max(np.linalg.norm(expected), np.finfo(np.float32).tiny))
        if not error <= TOLERANCE:  # NaN included
            raise ExportError(
                f"graph={name!r}: relative error {error:.1e} at batch size {size} exceeds {TOLERANCE:.0e}; "
                "nothing was written"
            )
        relative, largest = max(relative, error), max(largest, float(np.abs(difference).max()))
    return Parity(BATCH_SIZES, relative, largest)
