"""Parity: whether exported graphs compute what the model they were made from computes.

Known inputs and the eager model's outputs are stored in the bundle, so any machine can repeat the comparison on
its own backend and device, without PyTorch unless the backend needs it.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, Vis4merError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.interface import ENCODER, GraphInterface, shown
from vis4mer.runtime.manifest import Precision

CASES_FILE = "parity.cases.npz"

# Largest relative L2 error of a graph's outputs. Half precision rounds each product to 11 (fp16) or 8 (bf16) bits, and
# the errors of a dozen layers add up.
PARITY_TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-2}


class ParityError(Vis4merError, RuntimeError):
    """A graph's outputs differ from the model's."""


@dataclass(frozen=True)
class GraphCases:
    """Inputs of one graph and the eager model's outputs for them in fp32.

    Attributes:
        kinds: Kind of each input: ``random``; ``static``, tokens that hardly change; or ``movie``, a movie's own.
        inputs: [N, ...], of the graph's input type.
        outputs: [N, ...], float32.
    """

    kinds: tuple[str, ...]
    inputs: NDArray[Any]
    outputs: NDArray[np.float32]


@dataclass(frozen=True)
class GraphParity:
    """Distance of one graph's outputs from the eager model's, the largest over cases and batch sizes.

    Attributes:
        kinds: Kinds of the inputs.
        batch_sizes: Batch sizes of the comparison.
        relative_l2: ``|graph - eager| / |eager|`` of the worst case.
        max_abs: Largest absolute difference.
        tolerance: Upper bound of `relative_l2`.
        same_label: Whether every case had the eager model's argmax; None if the outputs are not classes.
    """

    kinds: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    relative_l2: float
    max_abs: float
    tolerance: float
    same_label: bool | None


def check_graph(name: str, run: Runner, cases: GraphCases, precision: Precision, classes: bool) -> GraphParity:
    """Compares one graph with the model at batch size 1 and with all cases at once.

    Args:
        name: Name of the graph, for errors.
        run: Runner of the graph.
        cases: Inputs and expected outputs, at least two of each.
        precision: Precision of the graph, which determines the tolerance.
        classes: Whether the largest output names a class.

    Raises:
        ParityError: A shape, a type, a value or a label differs.
    """
    tolerance = PARITY_TOLERANCES[precision]
    # Differences and norms in float64 add no rounding of their own to the errors that are measured.
    expected = cases.outputs.astype(np.float64)
    scale = _scale(expected)
    # A graph whose batch axis was fixed by mistake, or whose rows influence each other, is right at one size only.
    sizes = (1, len(cases.inputs))
    worst, largest, same_label = 0.0, 0.0, True
    for size in sizes:
        actual = _run_in_batches(run, cases.inputs, size)
        # NumPy would broadcast a result that lacks an axis, and the comparison could pass.
        if actual.shape != expected.shape or actual.dtype != cases.outputs.dtype:
            rule = f"returned {shown(actual)}, but the model returned {shown(cases.outputs)}"
            raise ParityError.of("graph", name, rule, "export it again")
        errors = _norms(actual - expected) / scale
        # NaN counts as the largest error, so that the error names the input that failed.
        case = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
        if not errors[case] <= tolerance:  # written so that NaN fails too
            raise ParityError.of(
                "graph",
                name,
                f"relative error {errors[case]:.1e} exceeds {tolerance:.0e} on a {cases.kinds[case]} input at batch "
                f"size {size}",
            )
        worst = max(worst, float(errors[case]))
        largest = max(largest, float(np.abs(actual - expected).max()))
        # Two nearly equal logits may change places within the tolerance, which changes the prediction.
        same_label &= bool((actual.argmax(axis=-1) == expected.argmax(axis=-1)).all())
    if classes and not same_label:
        raise ParityError.of("graph", name, f"its label is not the model's, though it is within {tolerance:.0e}")
    return GraphParity(cases.kinds, sizes, worst, largest, tolerance, same_label if classes else None)


def _run_in_batches(run: Runner, inputs: NDArray[Any], size: int) -> NDArray[Any]:
    batches = (inputs[start : start + size] for start in range(0, len(inputs), size))
    return np.concatenate([on_host(run(batch)) for batch in batches])


def _scale(expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the norm [N] that each case's error is relative to: the case's own, or the root mean square of all.

    A regression's value may be close to zero by chance, and an error relative to it alone would mean nothing.
    """
    norms = _norms(expected)
    typical = float(np.sqrt(np.mean(np.square(norms))))
    smallest = float(np.finfo(np.float32).tiny)  # if the model returns nothing but zeros
    return np.maximum(norms, max(typical, smallest))


def _norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(values.reshape(len(values), -1), axis=1))


def check_bundle(bundle: Bundle, device: Device) -> dict[str, GraphParity]:
    """Repeats an export's comparison from the bundle alone: first the digests, then every graph on its stored cases.

    Args:
        bundle: Bundle to check.
        device: Device to run the graphs on.

    Returns:
        The parity of each graph, by name.

    Raises:
        BundleError: A file is missing or altered, or the bundle holds no cases.
        ParityError: A graph's outputs differ from the stored ones.
        DeviceError: The graphs cannot run on the device.
    """
    # Reading a file checks its digest too. Verifying all of them first reports an altered file before any graph runs.
    bundle.verify()
    cases = Cases.from_bytes(bundle.read(CASES_FILE))
    results = {}
    for name in bundle.graphs:
        run, known = bundle.open_graph(name, device), cases.of(name, bundle.interface[name])
        results[name] = check_graph(name, run, known, bundle.precision, is_classifier(bundle.model, name))
    return results


def is_classifier(model: ModelConfig, graph: str) -> bool:
    """Returns whether a graph's outputs are the logits of classes, as opposed to tokens or a value."""
    return graph != ENCODER and model.heads[graph].task == "classification"


@dataclass(frozen=True)
class Cases:
    """The cases of every graph of a bundle, as one .npz file.

    Attributes:
        arrays: Arrays by name: ``inputs/GROUP`` and ``kinds/GROUP`` of the groups ``encoder`` and ``heads``, since all
            heads have the same inputs, and ``outputs/GRAPH``.
    """

    arrays: Mapping[str, NDArray[Any]]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads the output of `to_bytes`.

        Raises:
            BundleError: The data is not an array archive.
        """
        try:
            # Unpickling would run code from the file. Arrays are decompressed when they are accessed, so all of them
            # are read inside this block, where damage is reported.
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return cls({name: archive[name] for name in archive.files})
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            rule = f"is not an array archive ({error})"
            raise BundleError.of("file", CASES_FILE, rule, "export the bundle again") from None

    def to_bytes(self) -> bytes:
        """Returns the cases as a compressed .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
        return buffer.getvalue()

    def of(self, graph: str, interface: GraphInterface) -> GraphCases:
        """Returns the cases of one graph.

        Args:
            graph: Name of the graph.
            interface: Interface of the graph. Features are stored in half precision, and the eager model was run on
                the rounded values, so converting them to the input's type is exact.

        Raises:
            BundleError: There are no cases of the graph.
        """
        group = ENCODER if graph == ENCODER else "heads"
        try:
            inputs = self.arrays[f"inputs/{group}"].astype(interface.input.dtype, copy=False)
            kinds = tuple(str(kind) for kind in self.arrays[f"kinds/{group}"])
            return GraphCases(kinds, inputs, self.arrays[f"outputs/{graph}"])
        except KeyError as error:
            rule = f"lacks {error} of {graph!r}"
            raise BundleError.of("file", CASES_FILE, rule, "export the bundle again") from None
