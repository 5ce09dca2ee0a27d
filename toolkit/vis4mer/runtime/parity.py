"""Parity: whether exported graphs compute what the model they were made from computes.

Known inputs and the eager model's outputs are stored in the bundle, so any machine can repeat the comparison on
its own backend and device, without PyTorch unless the backend needs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device
from vis4mer.errors import BundleError, DeviceError, Vis4merError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.cases import CASES_FILE, Cases, GraphCases
from vis4mer.runtime.interface import ENCODER, shown
from vis4mer.runtime.manifest import Precision
from vis4mer.runtime.meaning import check_labels, check_model, check_pictures

# Keys of a graph's parity report in the manifest: what ran in place of a graph that the exporting machine cannot run as
# it was written, and why it cannot.
RAN, REASON = "ran", "reason"

# Largest relative L2 error of a graph's outputs. Half precision rounds each product to 11 (fp16) or 8 (bf16) bits, and
# the errors of a dozen layers add up.
PARITY_TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-2}


class ParityError(Vis4merError, RuntimeError):
    """A graph's outputs differ from the model's."""


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
    """Repeats an export's comparison from the bundle alone.

    The digests come first, then every graph on its stored cases, then what the manifest says about the graphs: labels,
    preprocessing, windows.

    Args:
        bundle: Bundle to check.
        device: Device to run the graphs on.

    Returns:
        The parity of each graph, by name.

    Raises:
        BundleError: A file is missing or altered, the bundle holds no cases, or its manifest does not describe the
            model that was exported.
        ParityError: A graph's outputs differ from the stored ones.
        DeviceError: The graphs cannot run on the device.
    """
    # Reading a file checks its digest too. Verifying all of them first reports an altered file before any graph runs.
    bundle.verify()
    cases = Cases.from_bytes(bundle.read(CASES_FILE))
    results = {}
    for name in bundle.graphs:
        run, known = _open(bundle, name, device), cases.of(name, bundle.interface[name])
        classes = is_classifier(bundle.model, name)
        results[name] = check_graph(name, run, known, bundle.precision, classes)
        if classes:
            # The graph's own largest outputs are those of the stored ones, which was just checked.
            check_labels(name, bundle.model, known, known.outputs.argmax(axis=-1).tolist())
    check_model(bundle, cases)
    check_pictures(bundle, cases)
    return results


def _open(bundle: Bundle, graph: str, device: Device) -> Runner:
    try:
        return bundle.open_graph(graph, device)
    except (BundleError, DeviceError) as error:
        # A graph that the exporting machine could not run either is no sign of damage.
        if (reason := not_executed(bundle).get(graph)) is not None:
            raise type(error)(f"{error}; its export did not run it either: {reason}") from None
        raise


def not_executed(bundle: Bundle) -> dict[str, str]:
    """Returns the graphs that their export did not run in the form in which it wrote them, and the reason for each."""
    reports = ((graph, bundle.parity.get(graph)) for graph in bundle.graphs)
    return {
        graph: str(report.get(REASON, "the machine could not run them"))
        for graph, report in reports
        if isinstance(report, Mapping) and RAN in report
    }


def is_classifier(model: ModelConfig, graph: str) -> bool:
    """Returns whether a graph's outputs are the logits of classes, as opposed to tokens or a value."""
    return graph != ENCODER and model.heads[graph].task == "classification"
