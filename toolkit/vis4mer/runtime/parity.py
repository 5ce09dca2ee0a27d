"""Whether exported graphs are the model they were made from: known inputs through them, outputs compared.

The inputs and the eager model's outputs travel in the bundle, so that any machine can repeat the proof on its own
backend and device, without PyTorch where the backend needs none.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, Vis4merError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.registry import open_graph
from vis4mer.runtime.bundle import ENCODER, Bundle, Precision

CASES_FILE = "parity.cases.npz"

# Largest relative L2 error of a graph's outputs.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-2}


class ParityError(Vis4merError, RuntimeError):
    """A graph's outputs are not the model's."""


@dataclass(frozen=True)
class GraphCases:
    """Inputs of one graph and what the eager model makes of them in fp32.

    Attributes:
        kinds: of each input: ``random``, ``static`` for tokens that hardly change, or ``movie`` for those of a movie.
        inputs: [N, ...], in the graph's input type.
        outputs: [N, ...], float32.
    """

    kinds: tuple[str, ...]
    inputs: NDArray[Any]
    outputs: NDArray[np.float32]


@dataclass(frozen=True)
class GraphParity:
    """How far one graph's outputs were from the eager model's, the worst over cases and batch sizes.

    Attributes:
        kinds: of the inputs.
        batch_sizes: tried.
        relative_l2: ``|graph - eager| / |eager|`` of one case.
        max_abs: largest absolute difference.
        tolerance: that `relative_l2` had to keep.
        same_label: whether every case had the eager model's argmax; None where outputs are no classes.
    """

    kinds: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    relative_l2: float
    max_abs: float
    tolerance: float
    same_label: bool | None


def check_graph(name: str, run: Runner, cases: GraphCases, precision: Precision, classes: bool) -> GraphParity:
    """Compares one graph at batch size 1 and with all cases at once.

    Args:
        name: of the graph, for errors.
        run: the graph.
        cases: at least two.
        precision: decides the tolerance.
        classes: whether the largest output names a class.

    Raises:
        ParityError: a shape, a type, a value or a label differs.
    """
    tolerance = TOLERANCES[precision]
    expected = cases.outputs.astype(np.float64)
    # A regression's value may lie near zero, where an error relative to it alone would mean nothing.
    norms = _norms(expected)
    typical = float(np.sqrt(np.mean(np.square(norms))))
    scale = np.maximum(norms, max(typical, float(np.finfo(np.float32).tiny)))
    sizes = (1, len(cases.inputs))
    worst, largest, same_label = 0.0, 0.0, True
    for size in sizes:
        batches = [on_host(run(cases.inputs[i : i + size])) for i in range(0, len(cases.inputs), size)]
        actual = np.concatenate(batches)
        if actual.shape != expected.shape or actual.dtype != np.float32:
            given, wanted = f"{actual.dtype}{list(actual.shape)}", f"float32{list(expected.shape)}"
            raise ParityError(f"graph={name!r}: gives {given} where the model gives {wanted}; export it again")
        errors = _norms(actual - expected) / scale
        case = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
        if not errors[case] <= tolerance:  # NaN included
            raise ParityError(
                f"graph={name!r}: relative error {errors[case]:.1e} exceeds {tolerance:.0e} on a {cases.kinds[case]} "
                f"input at batch size {size}"
            )
        worst, largest = max(worst, float(errors[case])), max(largest, float(np.abs(actual - expected).max()))
        same_label &= bool((actual.argmax(axis=-1) == expected.argmax(axis=-1)).all())
    if classes and not same_label:
        raise ParityError(f"graph={name!r}: another label than the model's, though within {tolerance:.0e}")
    return GraphParity(cases.kinds, sizes, worst, largest, tolerance, same_label if classes else None)


def _norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(values.reshape(len(values), -1), axis=1))


def check_bundle(
    bundle: Bundle, device: Device, report: Callable[[str, GraphParity], None] | None = None
) -> dict[str, GraphParity]:
    """Repeats the proof of an export from its bundle alone: digests first, then every graph on its stored cases.

    Args:
        bundle: to check.
        device: to run the graphs on.
        report: told each graph's result as it comes.

    Raises:
        BundleError: a file is missing or altered, or the bundle holds no cases.
        ParityError: a graph's outputs are not the stored ones.
        DeviceError: the graphs cannot run on the device.
    """
    bundle.verify()
    cases = Cases.from_bytes(bundle.read(CASES_FILE))
    results = {}
    for name in bundle.graphs:
        run = open_graph(bundle, name, device)
        results[name] = check_graph(name, run, cases.of(name), bundle.precision, is_classifier(bundle.model, name))
        if report:
            report(name, results[name])
    return results


def is_classifier(model: ModelConfig, graph: str) -> bool:
    """Whether a graph's outputs are the logits of classes, as opposed to tokens or a value."""
    return graph != ENCODER and model.heads[graph].task == "classification"


@dataclass(frozen=True)
class Cases:
    """The cases of every graph of a bundle, as one .npz file.

    Attributes:
        arrays: ``inputs/NAME`` (heads with the same inputs share ``inputs/heads``), ``outputs/GRAPH``, ``kinds/NAME``.
    """

    arrays: Mapping[str, NDArray[Any]]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads `to_bytes`'s output.

        Raises:
            BundleError: it is not.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return cls({name: archive[name] for name in archive.files})
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"file={CASES_FILE!r}: not an array archive ({error}); export the bundle again") from None

    def to_bytes(self) -> bytes:
        """The cases as a compressed .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
        return buffer.getvalue()

    def of(self, graph: str) -> GraphCases:
        """The cases of one graph.

        Raises:
            BundleError: there are none.
        """
        group = "encoder" if graph == ENCODER else "heads"
        try:
            inputs = self.arrays[f"inputs/{group}"]
            # Features are stored in half precision: the eager model saw the same rounded values.
            inputs = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)
            kinds = tuple(str(kind) for kind in self.arrays[f"kinds/{group}"])
            return GraphCases(kinds, inputs, self.arrays[f"outputs/{graph}"])
        except KeyError as error:
            raise BundleError(f"file={CASES_FILE!r}: lacks {error} of {graph!r}; export the bundle again") from None
