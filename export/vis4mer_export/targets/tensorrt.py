"""The targets trt and trt-rtx: engines built from ONNX graphs by TensorRT or by TensorRT for RTX.

Both have one Python API, so one builder serves both. TensorRT builds on the GPU that will run the engine; TensorRT for
RTX builds anywhere, ahead of time. Networks are strongly typed: the graph's own types are the engine's, in TensorRT 10,
whose precision flags are left alone, as in 11, which has none.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vis4mer.devices.device import probe_driver
from vis4mer.errors import ConfigError, DeviceError, ExportError
from vis4mer.files import atomic_file
from vis4mer.runtime.backends.tensorrt import Product, collect_errors, import_tensorrt
from vis4mer.runtime.bundle import Precision
from vis4mer.text import one_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchProfile:
    """The batch sizes an engine is built for: 1 <= min <= opt <= max.

    Attributes:
        min: smallest; the runner pads what is smaller.
        opt: the one whose speed counts.
        max: largest, which sets how much memory is taken; the runner splits what is larger.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            rule = "must be MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX"
            raise ConfigError(f"batch_size={f'{self.min}:{self.opt}:{self.max}'!r}: {rule}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``MIN:OPT:MAX``, or ``N`` for ``1:N:N``.

        Raises:
            ConfigError: `text` is neither.
        """
        sizes = text.split(":")
        if len(sizes) not in (1, 3) or not all(size.isascii() and size.isdecimal() for size in sizes):
            raise ConfigError(f"batch_size={text!r}: must be N or MIN:OPT:MAX, in whole numbers")
        numbers = [int(size) for size in sizes]
        return cls(1, numbers[0], numbers[0]) if len(numbers) == 1 else cls(*numbers)


@dataclass(frozen=True)
class EngineReport:
    """What was built.

    Attributes:
        product: that built the engine and must run it.
        version: of the product, which the one that runs it must equal.
        gpus: of ``trt``, the name of the GPU it was built on; of ``trt-rtx``, the compute capabilities asked for, or
            none for the product's own choice, which is every GPU from sm80 on that it knows.
        precision: of the graph's products.
        profile: batch sizes.
        layers: of the network before the builder fused them.
        bytes: size of the engine.
        seconds: that parsing and building took.
    """

    product: Product
    version: str
    gpus: tuple[str, ...]
    precision: Precision
    profile: BatchProfile
    layers: int
    bytes: int
    seconds: float


def check_target(product: Product, gpus: Sequence[str] = ()) -> Any:
    """Refuses what cannot be built here, before any work is done.

    Args:
        product: to build with.
        gpus: to build for, such as ``sm86``; of ``trt-rtx`` only.

    Returns:
        The product's Python module.

    Raises:
        ConfigError: the product does not build for one of `gpus`.
        DeviceError: the product builds on a GPU, and there is none.
        MissingDependencyError: the product is not installed.
    """
    trt = import_tensorrt(product)
    if product == "trt":
        if gpus:
            rule = "a TensorRT engine is built for the GPU at hand; leave --gpu out, or use --format trt-rtx"
            raise ConfigError(f"gpu={','.join(gpus)!r}: {rule}")
        if problem := probe_driver().problem:
            rule = "TensorRT builds on the GPU that will run the engine: export there, or use --format trt-rtx"
            raise DeviceError(f"format='trt': {problem}; {rule}")
        return trt
    known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    for gpu in gpus:
        if gpu not in known:
            raise ConfigError(f"gpu={gpu!r}: TensorRT for RTX {trt.__version__} builds for {', '.join(known)}")
    return trt


def build_engine(
    graph: Path,
    engine: Path,
    *,
    product: Product,
    precision: Precision,
    profile: BatchProfile,
    gpus: Sequence[str] = (),
) -> EngineReport:
    """Builds an engine from an ONNX graph with one input and one output whose first axes alone are dynamic.

    Args:
        graph: the ONNX file; external data lies beside it.
        engine: the file to write, whole or not at all.
        product: to build with.
        precision: that the graph is typed in; the engine takes it from there.
        profile: batch sizes.
        gpus: see `check_target`.

    Raises:
        ConfigError, DeviceError, MissingDependencyError: see `check_target`.
        ExportError: the product cannot parse or build the graph, or it is of another interface or precision.
    """
    trt = check_target(product, gpus)
    started = time.monotonic()
    log = collect_errors(trt)
    try:
        builder = trt.Builder(log)
    except TypeError:  # what the constructor raises where CUDA fails it
        raise DeviceError(f"format={product!r}: {trt.__name__} {trt.__version__}: {log.reason()}") from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, log, graph)
    _check_interface(network, graph)
    _check_precision(trt, network, graph, precision)
    plan = builder.build_serialized_network(network, _configure(trt, builder, network, profile, gpus))
    if plan is None:
        raise ExportError(f"{graph.name}: {trt.__name__} {trt.__version__} cannot build it: {log.reason()}")
    try:
        with atomic_file(engine) as file:
            file.write(plan)
    except OSError as error:
        raise ExportError(f"{engine.name}: cannot be written: {error.strerror}") from None
    report = EngineReport(
        product=product,
        version=trt.__version__,
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


def _check_interface(network: Any, graph: Path) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    shapes = [tuple(tensor.shape) for tensor in (*inputs, *outputs)]
    if (len(inputs), len(outputs)) != (1, 1) or any(s[0] != -1 or min(s[1:]) < 1 for s in shapes):
        rule = "must have one input and one output whose first axes alone are dynamic"
        raise ExportError(f"{graph.name}: has {[t.name for t in (*inputs, *outputs)]} of shapes {shapes}; {rule}")


def _check_precision(trt: Any, network: Any, graph: Path, precision: Precision) -> None:
    """A strongly typed network computes as it is typed, whatever was asked for."""
    names = {trt.DataType.HALF: "fp16", trt.DataType.BF16: "bf16"}
    layers = (network.get_layer(i) for i in range(network.num_layers))
    types = {layer.get_output(i).dtype for layer in layers for i in range(layer.num_outputs)}
    found = {names[dtype] for dtype in types if dtype in names} or {"fp32"}
    if found != {precision}:
        raise ExportError(f"{graph.name}: precision={precision!r}: the graph is typed in {', '.join(sorted(found))}")


def _configure(trt: Any, builder: Any, network: Any, profile: BatchProfile, gpus: Sequence[str]) -> Any:
    config = builder.create_builder_config()
    # On unless cleared: products of fp32 tensors with a mantissa of 10 bits, beyond the tolerance of the parity check.
    config.clear_flag(trt.BuilderFlag.TF32)
    source = network.get_input(0)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(
        source.name, *((size, *tuple(source.shape)[1:]) for size in (profile.min, profile.opt, profile.max))
    )
    config.add_optimization_profile(shapes)
    if gpus:
        config.num_compute_capabilities = len(gpus)
        for i, gpu in enumerate(gpus):
            config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), i)
    return config
