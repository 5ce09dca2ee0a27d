"""The whole export: a model in, a proved bundle out, or nothing."""

import contextlib
import copy
import dataclasses
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vis4mer import __version__
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import BundleError, DeviceError, ExportError
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.pt2 import pt2_runner
from vis4mer.runtime.backends.torchscript import torchscript_runner
from vis4mer.runtime.bundle import ENCODER, Bundle, BundleWriter, Format, Precision
from vis4mer.runtime.parity import (
    CASES_FILE,
    TOLERANCES,
    Cases,
    GraphParity,
    ParityError,
    check_graph,
    is_classifier,
)
from vis4mer_export.cases import exported_length, make_cases, with_window
from vis4mer_export.drift import first_drift
from vis4mer_export.freeze import freeze
from vis4mer_export.longconv.lower import Lowered, Lowering
from vis4mer_export.precision import in_precision
from vis4mer_export.targets import onnx, pt2, torchscript
from vis4mer_export.targets.tensorrt import BatchProfile, build_engine, check_target

SUFFIXES: dict[Format, str] = {
    "torchscript": "ts",
    "pt2": "pt2",
    "onnx": "onnx",
    "trt": "engine",
    "trt-rtx": "engine",
}


@dataclass(frozen=True)
class ExportOptions:
    """What to export to.

    Attributes:
        format: of the graphs.
        precision: of the matrix products; weights are stored in it.
        lowering: of the long convolutions; ``auto`` takes the fastest that is exact enough.
        length: L, in tokens, of the heads' input; the model's window where None.
        batch: sizes that an engine is built for; other formats take any.
        gpus: that a ``trt-rtx`` engine is built for, such as ``sm86``; the product's own choice where empty.
        device: that a ``pt2`` package is compiled for; ``cpu`` or ``cuda``.
    """

    format: Format
    precision: Precision = "fp32"
    lowering: Lowering | Literal["auto"] = "auto"
    length: int | None = None
    batch: BatchProfile = field(default_factory=lambda: BatchProfile(1, 1, 32))
    gpus: tuple[str, ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"


Report = Callable[[str, GraphParity], None]


def export_model(
    model: Vis4mer, output: Path, options: ExportOptions, *, movie: Path | None = None, report: Report | None = None
) -> Bundle:
    """Exports a model's encoder and heads, each proved equal to it before the bundle appears.

    Args:
        model: in evaluation mode; left as it is.
        output: the bundle's directory; an older bundle there is replaced.
        options: what to export to.
        movie: on whose frames and tokens to prove it, besides random ones.
        report: told each graph's parity as it comes.

    Raises:
        ExportError: a graph cannot be exported.
        ParityError: a graph's outputs are not the model's; the message names the stage that drifted.
        BundleError: `output` is not to be written, or cannot be.
        MissingDependencyError, DeviceError, ConfigError: the target cannot be built here, or not so.
    """
    if options.format in ("trt", "trt-rtx"):
        check_target(options.format, options.gpus)
    if (samples := model.config.windows.samples) is not None:
        rule = f"samples={samples}: a model of samples of the whole movie cannot be served, so it is not exported"
        raise ExportError(f"{rule}; 'vis4mer eval' evaluates it")
    length = exported_length(model.config, options.length)
    with BundleWriter(output) as writer:
        cases = make_cases(model, length, movie)
        parity: dict[str, Any] = {}
        lowering: dict[str, Any] = {}
        try:
            for graph in _graphs(model, length, options):
                path = writer.path(f"{graph.name}.{SUFFIXES[options.format]}")
                result, notes = _write_and_prove(graph, path, cases, options)
                parity[graph.name] = dataclasses.asdict(result) | notes
                if graph.blocks:
                    lowering[graph.name] = {"length": length, "blocks": [_describe(block) for block in graph.blocks]}
                if report:
                    report(graph.name, result)
            writer.path(CASES_FILE).write_bytes(cases.to_bytes())
        except OSError as error:
            reason = error.strerror or str(error)
            raise BundleError(f"output={str(output)!r}: cannot be written ({reason}); make room") from None
        return writer.commit(
            format=options.format,
            precision=options.precision,
            model=with_window(model.config, length),
            tools=_tool_versions(options.format),
            parity=parity,
            lowering=lowering,
        )


@dataclass(frozen=True)
class _Graph:
    """One graph to write: the trained module, the module that is written for it, and the contract's names."""

    name: str
    eager: nn.Module
    module: nn.Module
    interface: tuple[str, str]
    classes: bool
    blocks: tuple[Lowered, ...] = ()


def _graphs(model: Vis4mer, length: int, options: ExportOptions) -> Iterator[_Graph]:
    if model.encoder is not None:
        typed = in_precision(model.encoder, options.precision)
        _require_typed(typed, model, options)
        yield _Graph(ENCODER, model.encoder, typed, ("frames", "tokens"), classes=False)
    for name in model.heads:
        frozen = freeze(model.head(name), length, options.format, options.lowering, options.precision)
        classes = is_classifier(model.config, name)
        yield _Graph(name, model.head(name), frozen.module, ("features", "logits"), classes, frozen.blocks)


def _require_typed(typed: nn.Module, model: Vis4mer, options: ExportOptions) -> None:
    """Some families of encoders use their layers' weights directly, past the layers that round for them."""
    size = model.config.preprocessing
    try:
        with torch.inference_mode():
            typed(torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8))
    except (AttributeError, RuntimeError, TypeError, AssertionError) as error:
        name = model.config.encoder and model.config.encoder.name
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"precision={options.precision!r}: the encoder {name} cannot be typed in it ({reason}); use fp32"
        ) from None


def _write_and_prove(
    graph: _Graph, path: Path, cases: Cases, options: ExportOptions
) -> tuple[GraphParity, dict[str, Any]]:
    """Writes one graph and compares it, or what an engine is built from, with the model; the latter with notes."""
    example = torch.from_numpy(cases.of(graph.name).inputs[:2])
    match options.format:
        case "onnx":
            onnx.export_graph(graph.module, example, path, *graph.interface)
            return _prove(graph, onnx.cpu_runner(path, graph.name), cases, options), {}
        case "torchscript":
            torchscript.export_graph(graph.module, example, path)
            return _prove(graph, torchscript_runner(path.read_bytes(), graph.name, CPU), cases, options), {}
        case "pt2":
            pt2.export_graph(_on_device(graph.module, options.device), example.to(options.device), path)
            run = pt2_runner(path.read_bytes(), graph.name, Device(options.device))
            return _prove(graph, run, cases, options), {}
        case "trt" | "trt-rtx":
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                source = Path(scratch) / f"{graph.name}.onnx"
                onnx.export_graph(graph.module, example, source, *graph.interface)
                result = _prove(graph, onnx.cpu_runner(source, graph.name), cases, options)
                report = build_engine(
                    source,
                    path,
                    product=options.format,
                    precision=options.precision,
                    profile=options.batch,
                    gpus=options.gpus,
                )
            return result, {"ran": "the ONNX graph the engine was built from", "engine": dataclasses.asdict(report)}


def _on_device(module: nn.Module, device: str) -> nn.Module:
    try:
        return copy.deepcopy(module).to(device)
    except (RuntimeError, AssertionError) as error:  # a CPU-only build of PyTorch asserts
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device={device!r}: PyTorch cannot use it ({reason}); use --device cpu") from None


def _prove(graph: _Graph, run: Runner, cases: Cases, options: ExportOptions) -> GraphParity:
    """Compares the written graph with the model; where they differ, finds the stage that drifted."""
    known = cases.of(graph.name)
    try:
        return check_graph(graph.name, run, known, options.precision, graph.classes)
    except ParityError as error:
        inputs = torch.from_numpy(known.inputs)
        drift = first_drift(graph.eager, graph.module, inputs, TOLERANCES[options.precision])
        raise ParityError(f"{error}; {drift}; nothing was written") from None


def _describe(block: Lowered) -> dict[str, Any]:
    return {"lowering": block.lowering, "relative_l2": block.relative_l2, "reason": block.reason}


def _tool_versions(format: Format) -> dict[str, str]:
    packages = {"torch": ["torch"], "onnx": ["torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime"]}
    known = {"vis4mer": __version__, "python": platform.python_version()}
    for name in packages["torch" if format in ("torchscript", "pt2") else "onnx"]:
        with contextlib.suppress(PackageNotFoundError):
            known[name] = version(name)
    return known | ({} if format in ("torchscript", "pt2") else {"opset": str(onnx.OPSET)})
