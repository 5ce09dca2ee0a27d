"""Engines from ONNX graphs: code shared by the targets trt and trt-rtx, whose products have the same Python API.

Networks are strongly typed: an engine computes in the types of its graph. That is the only way in TensorRT 11, and in
TensorRT 10 it makes the builder's precision flags unnecessary.
"""

import dataclasses
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vis4mer.devices.device import Device, probe_driver
from vis4mer.errors import ConfigError, DeviceError, ExportError
from vis4mer.files import atomic_file
from vis4mer.text import one_line
from vis4mer_export.targets.base import Built, GraphSource, Obstacle, Target, TargetOption, open_written
from vis4mer_export.targets.onnx import open_on_cpu, write_onnx

if TYPE_CHECKING:
    from vis4mer.runtime.backends.tensorrt import Product
    from vis4mer.runtime.manifest import Precision

logger = logging.getLogger(__name__)

# The GPU that TensorRT builds for, and that runs an engine for the comparison.
FIRST_GPU = Device("cuda")


@dataclass(frozen=True)
class BatchProfile:
    """The batch sizes that an engine is built for: 1 <= min <= opt <= max.

    Attributes:
        min: Smallest size; the runner pads smaller batches.
        opt: Size that the engine is tuned for.
        max: Largest size, which determines the memory that the engine needs; the runner splits larger batches.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            shown = f"{self.min}:{self.opt}:{self.max}"
            raise ConfigError.of("batch_size", shown, "must be MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``MIN:OPT:MAX``, or ``N`` for ``1:N:N``.

        Raises:
            ConfigError: The text has neither form.
        """
        sizes = text.split(":")
        if len(sizes) not in (1, 3) or not all(size.isascii() and size.isdecimal() for size in sizes):
            raise ConfigError.of("batch_size", text, "must be N or MIN:OPT:MAX, in whole numbers")
        numbers = [int(size) for size in sizes]
        return cls(1, numbers[0], numbers[0]) if len(numbers) == 1 else cls(*numbers)


BATCH_SIZE = TargetOption(
    "batch_size", "N|MIN:OPT:MAX", "1:1:32", "Batch sizes to build the engine for.", BatchProfile.parse
)


@dataclass(frozen=True)
class EngineReport:
    """Facts about an engine that has been built.

    Attributes:
        product: Product that built the engine and must run it.
        version: Version of the product; the runtime's version must be equal.
        gpus: Name of the GPU that a ``trt`` engine was built on, or the requested compute capabilities of a ``trt-rtx``
            engine; empty for the product's default, all supported GPUs from sm80.
        precision: Precision of the graph's matrix products.
        profile: Batch sizes.
        layers: Number of layers of the network before the builder fused them.
        bytes: Size of the engine.
        seconds: Time that parsing and building took.
    """

    product: "Product"
    version: str
    gpus: tuple[str, ...]
    precision: "Precision"
    profile: BatchProfile
    layers: int
    bytes: int
    seconds: float


def build_from_onnx(
    target: Target,
    source: GraphSource,
    path: Path,
    product: "Product",
    profile: BatchProfile,
    gpus: Sequence[str] = (),
    obstacle: Obstacle | None = None,
) -> Built:
    """Builds an engine by way of an ONNX graph.

    The engine itself is compared with the model where this machine can execute it; elsewhere ONNX Runtime runs the
    graph that the engine is built from.

    Args:
        target: Target that builds the engine.
        source: What to build.
        path: Engine to write.
        product: Product to build with.
        profile: Batch sizes.
        gpus: Compute capabilities to build for, with ``trt-rtx``.
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
        report = build_engine(graph, path, product=product, precision=source.precision, profile=profile, gpus=gpus)
    notes = {"engine": dataclasses.asdict(report)}
    if obstacle is None:
        return Built(open_written(target, source, path, FIRST_GPU), notes)
    return Built(run, notes, "the ONNX graph that the engine was built from", obstacle)


def build_engine(
    graph: Path,
    engine: Path,
    *,
    product: "Product",
    precision: "Precision",
    profile: BatchProfile,
    gpus: Sequence[str] = (),
) -> EngineReport:
    """Builds an engine from an ONNX graph with one input and one output whose first axes alone are dynamic.

    Args:
        graph: ONNX file; weights may lie in a file beside it.
        engine: File to write, whole or not at all.
        product: Product to build with.
        precision: Precision that the graph is typed in and the engine therefore has.
        profile: Batch sizes.
        gpus: Compute capabilities to build for, with ``trt-rtx``.

    Raises:
        DeviceError: CUDA fails.
        ExportError: The product cannot parse or build the graph, or the graph has another form or precision.
        MissingDependencyError: The product is not installed.
    """
    # Imported here, because the options of this module are listed on machines without TensorRT too.
    from vis4mer.runtime.backends.tensorrt import collect_errors, import_tensorrt

    trt = import_tensorrt(product)
    started = time.monotonic()
    log = collect_errors(trt)
    try:
        builder = trt.Builder(log)
    except TypeError:  # raised by the constructor if CUDA fails
        raise DeviceError.of("format", product, f"{trt.__name__} {trt.__version__}: {log.reason()}") from None
    # The flag's value is the position of its bit.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, log, graph)
    _check_form(network, graph)
    _check_precision(trt, network, graph, precision)
    plan = builder.build_serialized_network(network, _configure(trt, builder, network, profile, gpus))
    # The builder returns None instead of raising an exception, and writes the reason to its log.
    if plan is None:
        raise ExportError(f"{graph.name}: {trt.__name__} {trt.__version__} cannot build it: {log.reason()}")
    _write(plan, engine)
    report = EngineReport(
        product=product,
        version=trt.__version__,
        # TensorRT builds for the current GPU, which is the first one.
        gpus=probe_driver().gpus[:1] if product == "trt" else tuple(gpus),
        precision=precision,
        profile=profile,
        layers=network.num_layers,
        bytes=plan.nbytes,
        seconds=time.monotonic() - started,
    )
    logger.info("built %s: %s", engine.name, report)
    return report


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


def _configure(trt: Any, builder: Any, network: Any, profile: BatchProfile, gpus: Sequence[str]) -> Any:
    config = builder.create_builder_config()
    # TF32 is on by default. It multiplies fp32 tensors with a mantissa of 10 bits, beyond fp32's parity tolerance.
    config.clear_flag(trt.BuilderFlag.TF32)
    source = network.get_input(0)
    row = tuple(source.shape)[1:]
    shapes = builder.create_optimization_profile()
    shapes.set_shape(source.name, (profile.min, *row), (profile.opt, *row), (profile.max, *row))
    config.add_optimization_profile(shapes)
    if gpus:
        # The number comes first: TensorRT rejects an index beyond it.
        config.num_compute_capabilities = len(gpus)
        for i, gpu in enumerate(gpus):
            config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), i)
    return config


def _write(plan: Any, engine: Path) -> None:
    try:
        with atomic_file(engine) as file:
            file.write(plan)
    except OSError as error:
        raise ExportError(f"{engine.name}: cannot be written: {error.strerror}") from None
