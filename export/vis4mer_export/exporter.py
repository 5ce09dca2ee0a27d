"""Exports a model to a bundle, which is written only if its graphs compute what the model computes."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vis4mer.errors import BundleError, ExportError, Vis4merError
from vis4mer.files import write_failure
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.bundle import RAN, REASON, Bundle, BundleWriter
from vis4mer.runtime.cases import CASES_FILE, GraphCases
from vis4mer.runtime.interface import ENCODER, GraphInterface, graph_interfaces
from vis4mer.runtime.parity import PARITY_TOLERANCES, GraphParity, ParityError, check_graph, is_classifier
from vis4mer.text import first_line
from vis4mer_export.cases import make_cases
from vis4mer_export.drift import first_drift
from vis4mer_export.freeze import freeze
from vis4mer_export.length import exported_length, with_window
from vis4mer_export.longconv.lower import Lowered
from vis4mer_export.options import ExportOptions
from vis4mer_export.precision import in_precision
from vis4mer_export.targets.base import Built, GraphSource

# Batch size for tracing, which would treat an axis of size 1 as a constant.
_EXAMPLE_BATCH = 2


@dataclass(frozen=True)
class _FrozenGraph:
    """One graph of the model, ready to be built.

    Attributes:
        name: ``encoder`` or a head's name.
        eager: The trained module.
        module: The module to write: without state-space parameters, and in the export's precision.
        blocks: How each block's convolution was lowered; empty for the encoder.
    """

    name: str
    eager: nn.Module
    module: nn.Module
    blocks: tuple[Lowered, ...] = ()


def export_model(
    model: Vis4mer, output: Path, options: ExportOptions, *, movie: Path | None = None, force: bool = False
) -> Bundle:
    """Exports a model's encoder and heads, each compared with the model before the bundle appears.

    Args:
        model: Model in evaluation mode, on the CPU; it is not modified.
        output: Folder for the bundle.
        options: Options of the export.
        movie: Movie whose frames and tokens are compared besides random ones.
        force: Whether a bundle at `output` is replaced.

    Raises:
        BundleError: The bundle cannot be written to `output`, or there is one already.
        ConfigError: The tools here do not support an option's value.
        DeviceError: A device that the build needs is absent.
        ExportError: The model, or one of its graphs, cannot be exported, or cannot be executed here.
        MissingDependencyError: A tool of the target is not installed.
        ParityError: A graph's outputs differ from the model's; the message names the first stage that differs.
    """
    target, settings = options.target, options.settings
    # Checked before the model runs, so that a missing tool or device is reported at once.
    target.check(settings)
    options.require_executable(target.obstacle(options.precision, settings))
    _require_windows(model)
    length = exported_length(model.config, options.length)
    interfaces = graph_interfaces(model.config, length)
    # The manifest's windows have the exported length, so that serving cuts windows that fit the graphs.
    config = with_window(model.config, length)
    parity: dict[str, Any] = {}
    lowering: dict[str, Any] = {}
    # The bundle appears at `commit`, so an error in any graph leaves `output` as it was.
    with BundleWriter(output, force=force) as writer, _disk_errors(output):
        # All graphs are compared on cases from one run of the eager model, which the bundle keeps for later checks.
        cases = make_cases(model, config, options.precision, interfaces, movie)
        writer.path(CASES_FILE).write_bytes(cases.to_bytes())
        for graph in _freeze_graphs(model, length, options):
            interface = interfaces[graph.name]
            known = cases.of(graph.name, interface)
            source = _source(graph, interface, known, options)
            built = target.build(source, writer.path(f"{graph.name}.{target.suffix}"), settings)
            options.require_executable(built.obstacle)
            classes = is_classifier(model.config, graph.name)
            result = _prove(graph, built.run, known, options, classes)
            notes = {**built.notes, **_precision_reason(options), **_not_executed(built)}
            parity[graph.name] = {**dataclasses.asdict(result), **notes}
            if graph.blocks:
                lowering[graph.name] = {"length": length, "blocks": [_describe(b, options) for b in graph.blocks]}
        return writer.commit(
            format=target.name,
            precision=options.precision,
            model=config,
            interface=interfaces,
            tools=target.tool_versions(),
            parity=parity,
            lowering=lowering,
        )


def _precision_reason(options: ExportOptions) -> dict[str, str]:
    """Returns why a precision was chosen that the export did not state; nothing if it was stated or is fp32."""
    reason = options.target.precision_reason if options.requested_precision is None else ""
    return {"precision_reason": reason} if reason else {}


def _not_executed(built: Built) -> dict[str, str]:
    return {} if built.obstacle is None else {RAN: built.ran, REASON: built.obstacle.reason}


def _require_windows(model: Vis4mer) -> None:
    if (samples := model.config.windows.samples) is not None:
        rule = "a model of samples of the whole movie cannot be served, so it cannot be exported"
        raise ExportError.of("samples", samples, rule, "'vis4mer eval' evaluates it")


@contextlib.contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    """Reports a disk that is full or fails as an error about the output."""
    try:
        yield
    except Vis4merError:  # some of these are OSErrors too, such as those about the movie
        raise
    except OSError as error:
        raise BundleError.of("output", output, *write_failure(error)) from None


def _freeze_graphs(model: Vis4mer, length: int, options: ExportOptions) -> Iterator[_FrozenGraph]:
    """Yields the model's graphs one after the other, so that only one of them is held twice in memory."""
    if model.encoder is not None:
        typed = in_precision(model.encoder, options.precision)
        _require_typed(typed, model, options)
        yield _FrozenGraph(ENCODER, model.encoder, typed)
    for name in model.heads:
        head = model.head(name)
        frozen = freeze(head, length, options.candidates, options.precision)
        yield _FrozenGraph(name, head, frozen.module, frozen.blocks)


def _require_typed(typed: nn.Module, model: Vis4mer, options: ExportOptions) -> None:
    """Runs the typed encoder once: some families of encoders bypass the layers that round for their weights."""
    size = model.config.preprocessing
    try:
        with torch.inference_mode():
            typed(torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8))
    except (AttributeError, RuntimeError, TypeError, AssertionError) as error:
        name = model.config.encoder and model.config.encoder.name
        rule = f"the encoder {name} cannot run in it ({first_line(error)})"
        raise ExportError.of("precision", options.precision, rule, "use fp32") from None


def _source(graph: _FrozenGraph, interface: GraphInterface, cases: GraphCases, options: ExportOptions) -> GraphSource:
    example = torch.from_numpy(cases.inputs[:_EXAMPLE_BATCH])
    return GraphSource(graph.name, graph.module, example, interface, options.precision)


def _prove(graph: _FrozenGraph, run: Runner, cases: GraphCases, options: ExportOptions, classes: bool) -> GraphParity:
    """Compares a written graph with the model; if they differ, finds the first stage that differs."""
    try:
        return check_graph(graph.name, run, cases, options.precision, classes)
    except ParityError as error:
        # Both modules run in PyTorch here. This separates an error of freezing or rounding, which shows in a stage,
        # from one of the backend, which does not.
        inputs = torch.from_numpy(cases.inputs)
        drift = first_drift(graph.eager, graph.module, inputs, PARITY_TOLERANCES[options.precision])
        remedy = "" if options.precision == "fp32" else ", and --precision fp32 may be near enough"
        raise ParityError(f"{error}; {drift}; nothing was written{remedy}") from None


def _describe(block: Lowered, options: ExportOptions) -> dict[str, Any]:
    reason = "requested" if options.lowering != "auto" else "fastest measured for this target"
    reasons = [reason, *(f"not {skipped}" for skipped in block.skipped)]
    return {"lowering": block.lowering, "relative_l2": block.relative_l2, "reason": "; ".join(reasons)}
