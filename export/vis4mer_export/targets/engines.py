"""Engines from ONNX graphs: code shared by the targets trt and trt-rtx, whose products have the same Python API.

Networks are strongly typed: an engine computes in the types of its graph. That is the only way in TensorRT 11, and in
TensorRT 10 it makes the builder's precision flags unnecessary.
"""

import contextlib
import dataclasses
import importlib
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis4mer.devices.device import probe_driver
from vis4mer.errors import DeviceError, ExportError
from vis4mer.files import atomic_file
from vis4mer.text import one_line
from vis4mer_export.targets.base import Built, GraphSource, Obstacle, Target, open_written
from vis4mer_export.targets.engine_options import HARDWARE_LEVELS, BatchProfile, EngineSettings
from vis4mer_export.targets.onnx import open_on_cpu, write_onnx
from vis4mer_export.targets.timing_cache import TimingCache

if TYPE_CHECKING:
    from vis4mer.runtime.backends.tensorrt import Product
    from vis4mer.runtime.manifest import Precision

logger = logging.getLogger(__name__)

# Why engines are exported in fp16 unless a precision is stated; the manifest quotes it.
FP16_REASON = (
    "the default of engines: in fp32 the matrix products do not run on tensor cores, which takes several times as long"
)


@dataclass(frozen=True)
class EngineReport:
    """Facts about an engine that has been built.

    Attributes:
        product: Product that built the engine and must run it.
        version: Version of the product.
        gpus: Name of the GPU that a ``trt`` engine was built on, or the requested compute capabilities of a ``trt-rtx``
            engine; empty for the product's default, all supported GPUs from sm80.
        precision: Precision of the graph's matrix products.
        profile: Batch sizes.
        optimization_level: Effort of the builder, from 0 to 5; None with ``trt-rtx``, as the next two.
        hardware_compatibility: GPUs that run the engine: ``none`` for those of one type only.
        tensorrt_versions: Versions that run the engine: ``same``, or ``newer`` ones too.
        layers: Number of layers of the network before the builder fused them.
        bytes: Size of the engine.
        seconds: Time that parsing and building took.
    """

    product: "Product"
    version: str
    gpus: tuple[str, ...]
    precision: "Precision"
    profile: BatchProfile
    optimization_level: int | None
    hardware_compatibility: str | None
    tensorrt_versions: str | None
    layers: int
    bytes: int
    seconds: float


def build_from_onnx(
    target: Target, source: GraphSource, path: Path, settings: EngineSettings, obstacle: Obstacle | None = None
) -> Built:
    """Builds an engine by way of an ONNX graph.

    The engine itself is compared with the model where this machine can execute it; elsewhere ONNX Runtime runs the
    graph that the engine is built from.

    Args:
        target: Target that builds the engine.
        source: What to build.
        path: Engine to write.
        settings: How to build it.
        obstacle: Why this machine cannot execute the engine; None if it can.

    Raises:
        BundleError: The engine or the graph has another interface.
        DeviceError: CUDA fails, or the GPU cannot load the engine.
        ExportError: The graph cannot be exported, parsed or built.
    """
    # The system's folder for temporary files may lie in memory and be too small for the weights.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        graph = Path(scratch) / f"{source.name}.onnx"
        write_onnx(source, graph)
        # The build takes minutes, so a graph with another interface is rejected before it.
        run = open_on_cpu(source, graph)
        profile = settings.profile(source.name)
        report = build_engine(graph, path, precision=source.precision, profile=profile, settings=settings)
    notes = {"engine": dataclasses.asdict(report)}
    if obstacle is None:
        return Built(open_written(target, source, path, settings.device), notes)
    return Built(run, notes, "the ONNX graph that the engine was built from", obstacle)


def build_engine(
    graph: Path, engine: Path, *, precision: "Precision", profile: BatchProfile, settings: EngineSettings
) -> EngineReport:
    """Builds an engine from an ONNX graph with one input and one output whose first axes alone are dynamic.

    Args:
        graph: ONNX file; weights may lie in a file beside it.
        engine: File to write, whole or not at all.
        precision: Precision that the graph is typed in and the engine therefore has.
        profile: Batch sizes.
        settings: How to build.

    Raises:
        DeviceError: CUDA fails.
        ExportError: The product cannot parse or build the graph, or the graph has another form or precision.
        MissingDependencyError: The product is not installed.
    """
    # Imported here, because the options of this module are listed on machines without TensorRT too.
    from vis4mer.runtime.backends.tensorrt import collect_errors, import_tensorrt

    product = settings.product
    trt = import_tensorrt(product)
    started = time.monotonic()
    log = collect_errors(trt)
    if product == "trt":
        _make_current(settings)
    try:
        builder = trt.Builder(log)
    except TypeError:  # raised by the constructor if CUDA fails
        raise DeviceError.of("format", product, f"{trt.__name__} {trt.__version__}: {log.reason()}") from None
    # The flag's value is the position of its bit.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, log, graph)
    _check_form(network, graph)
    _check_precision(trt, network, graph, precision)
    plan = _build(trt, builder, network, _configure(trt, builder, network, profile, settings), log, settings)
    # The builder returns None instead of raising an exception, and writes the reason to its log.
    if plan is None:
        raise ExportError(f"{graph.name}: {trt.__name__} {trt.__version__} cannot build it: {log.reason()}")
    _write(plan, engine)
    on_gpu = product == "trt"
    report = EngineReport(
        product=product,
        version=trt.__version__,
        gpus=(_gpu_name(settings),) if on_gpu else settings.gpus,
        precision=precision,
        profile=profile,
        optimization_level=settings.optimization_level if on_gpu else None,
        hardware_compatibility=settings.hardware_compatibility if on_gpu else None,
        tensorrt_versions=settings.tensorrt_versions if on_gpu else None,
        layers=network.num_layers,
        bytes=plan.nbytes,
        seconds=time.monotonic() - started,
    )
    logger.info("built %s: %s", engine.name, report)
    return report


def _make_current(settings: EngineSettings) -> None:
    """Makes the chosen GPU current: TensorRT builds for the GPU that is."""
    # Imported here, because it imports NumPy, and options are listed without it.
    from vis4mer.devices.cuda import stream_of

    stream_of(settings.device).activate()


def _gpu_name(settings: EngineSettings) -> str:
    return probe_driver().gpus[settings.device.index]


def _build(trt: Any, builder: Any, network: Any, config: Any, log: Any, settings: EngineSettings) -> Any:
    """Returns the serialised engine, or None."""
    if settings.product == "trt-rtx":  # measures nothing, since it needs no GPU
        return builder.build_serialized_network(network, config)
    times = TimingCache(config, trt.__version__, _gpu_name(settings))
    # A rejected cache writes an error, which must not be taken for the reason of a later failure.
    log.reason()
    plan = builder.build_serialized_network(network, config)
    times.save()
    return plan


def _parse(trt: Any, network: Any, log: Any, graph: Path) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(graph)):  # by path, so that it finds external data
        return
    error = parser.get_error(0)
    node = f"operator {error.node_operator()} (node {error.node_name()!r})" if error.node_operator() else "it"
    raise ExportError(f"{graph.name}: {trt.__name__} {trt.__version__} cannot parse {node}: {one_line(error.desc())}")


def _check_form(network: Any, graph: Path) -> None:
    """Checks what the optimisation profile presumes; the interface itself was compared when the graph was opened."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    tensors = [*inputs, *outputs]
    shapes = [tuple(tensor.shape) for tensor in tensors]
    # TensorRT reports the size of a dynamic axis as -1.
    dynamic_first_axes_only = all(shape[0] == -1 and min(shape[1:]) >= 1 for shape in shapes)
    if (len(inputs), len(outputs)) != (1, 1) or not dynamic_first_axes_only:
        found = f"has {[tensor.name for tensor in tensors]} of shapes {shapes}"
        rule = "must have one input and one output whose first axes alone are dynamic"
        raise ExportError(f"{graph.name}: {found}; {rule}")


def _check_precision(trt: Any, network: Any, graph: Path, precision: "Precision") -> None:
    """Checks that the graph is typed as requested, since a strongly typed network computes in its graph's types."""
    names = {trt.DataType.HALF: "fp16", trt.DataType.BF16: "bf16"}
    layers = (network.get_layer(i) for i in range(network.num_layers))
    types = {layer.get_output(i).dtype for layer in layers for i in range(layer.num_outputs)}
    # Layers in fp32 surround the products of every half-precision graph, so fp32 is found only where no half type is.
    found = {names[dtype] for dtype in types if dtype in names} or {"fp32"}
    if found != {precision}:
        rule = f"the graph {graph.name} is typed in {', '.join(sorted(found))}"
        raise ExportError.of("precision", precision, rule)


def _configure(trt: Any, builder: Any, network: Any, profile: BatchProfile, settings: EngineSettings) -> Any:
    config = builder.create_builder_config()
    # TF32 is on by default. It multiplies fp32 tensors with a mantissa of 10 bits, beyond fp32's parity tolerance.
    config.clear_flag(trt.BuilderFlag.TF32)
    source = network.get_input(0)
    row = tuple(source.shape)[1:]
    shapes = builder.create_optimization_profile()
    shapes.set_shape(source.name, (profile.min, *row), (profile.opt, *row), (profile.max, *row))
    config.add_optimization_profile(shapes)
    if settings.product == "trt":
        _configure_compatibility(trt, config, settings)
    elif settings.gpus:
        # The number comes first: TensorRT rejects an index beyond it.
        config.num_compute_capabilities = len(settings.gpus)
        for i, gpu in enumerate(settings.gpus):
            config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), i)
    return config


def _configure_compatibility(trt: Any, config: Any, settings: EngineSettings) -> None:
    """Sets what TensorRT for RTX ignores or refuses."""
    config.builder_optimization_level = settings.optimization_level
    level = HARDWARE_LEVELS[settings.hardware_compatibility]
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if settings.tensorrt_versions == "newer":
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        # The builder puts a copy of the lean runtime into the engine. A package of its own holds that library, which
        # the builder finds once it is loaded; other installations have it where the system looks for libraries.
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module("tensorrt_lean")


def _write(plan: Any, engine: Path) -> None:
    try:
        with atomic_file(engine) as file:
            file.write(plan)
    except OSError as error:
        raise ExportError(f"{engine.name}: cannot be written: {error.strerror}") from None
