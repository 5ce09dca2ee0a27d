"""The onnx target: one file for each graph, checked before it is compared with the model."""

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis4mer.devices.device import CPU
from vis4mer.errors import ConfigError, ExportError
from vis4mer.text import first_line
from vis4mer_export.targets.axes import dynamic_shapes
from vis4mer_export.targets.base import Built, GraphSource, Obstacle, Target, TargetOption, open_written

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from vis4mer.runtime.backends.base import Runner
    from vis4mer.runtime.manifest import Precision

logger = logging.getLogger(__name__)

# The first opset with Gelu as one operator, which runtimes fuse into the product before it; every current runtime reads
# it. The first one with Attention as one operator, which ONNX Runtime runs as a fused kernel on a GPU.
_OPSETS = (20, 23)

# Distributions that write a graph and run it for the comparison. ONNX Runtime has two names, of which one is installed.
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime")

# A protobuf message ends at 2 GiB. The weights of larger graphs go to a file of their own, with some room to spare.
_LARGEST_FILE_BYTES = 1_900_000_000


def _parse_opset(text: str) -> int:
    if text not in map(str, _OPSETS):
        raise ConfigError.of("opset", text, f"must be {' or '.join(map(str, _OPSETS))}")
    return int(text)


OPSET = TargetOption(
    "opset",
    "|".join(map(str, _OPSETS)),
    str(_OPSETS[0]),
    "ONNX opset: 23 has attention as one operator, which is faster with ONNX Runtime on a GPU; fewer runtimes read it.",
    _parse_opset,
)


class OnnxTarget(Target):
    """ONNX; its runtimes have slow DFT operators or none, so the convolutions are lowered to matrix products."""

    name = "onnx"
    suffix = "onnx"
    lowerings = ("blocked_toeplitz", "matmul_dft")
    options = (OPSET,)
    packages = PACKAGES

    def obstacle(self, precision: "Precision", settings: Mapping[str, Any]) -> Obstacle | None:
        """Returns why ONNX Runtime's CPU provider cannot execute the graphs; see `Target`."""
        if precision != "bf16":
            return None
        reason = "ONNX Runtime has no bf16 products on the CPU"
        return Obstacle(reason, "export with --precision fp16 or fp32, or with --format pt2 or torchscript")

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Writes a module; see `Target`."""
        write_onnx(source, path, settings["opset"])
        obstacle = self.obstacle(source.precision, settings)
        ran = "" if obstacle is None else "the same graph in fp32, rounded to bf16 after every operator"
        return Built(open_on_cpu(source, path), {"opset": settings["opset"]}, ran, obstacle)


def write_onnx(source: GraphSource, path: Path, opset: int = _OPSETS[0]) -> None:
    """Writes a graph as an ONNX file, and the weights of a graph beyond 2 GiB as a second file.

    Args:
        source: What to write.
        path: File to write.
        opset: Version of ONNX's operators.

    Raises:
        ExportError: PyTorch cannot export the graph, or ONNX's checker rejects it.
    """
    import onnx
    import torch

    from vis4mer_export.targets.attention import attention

    # From opset 23, PyTorch's own translation is the operator Attention.
    translations: dict[Callable[..., Any], Callable[..., Any]] = (
        {torch.ops.aten.scaled_dot_product_attention.default: attention} if opset < 23 else {}
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations within the exporter, which users cannot act on
            program = torch.onnx.export(
                source.module,
                (source.example,),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=[tensor.name for tensor in source.interface.inputs],
                output_names=[tensor.name for tensor in source.interface.outputs],
                dynamic_shapes=dynamic_shapes(source.interface),
                custom_translation_table=translations,
            )
        assert program is not None
        _remove_origins(program.model)
        size = sum(tensor.nbytes for tensor in (*source.module.parameters(), *source.module.buffers()))
        program.save(path, external_data=size > _LARGEST_FILE_BYTES)
        onnx.checker.check_model(path, full_check=True)
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError) as error:
        logger.debug("ONNX export of %s failed", path.name, exc_info=True)
        raise ExportError(f"{path.name}: ONNX export failed: {first_line(error)}") from None


def open_on_cpu(source: GraphSource, path: Path) -> "Runner":
    """Opens a graph that `write_onnx` wrote on the CPU, for the comparison with the model.

    ONNX Runtime's CPU provider has no bf16 arithmetic, so a graph in bf16 runs in an equivalent form; see
    `_emulate_bfloat16`. Other graphs run as they are.

    Raises:
        BundleError: ONNX Runtime cannot load the graph, or the graph has another interface.
    """
    import onnx
    from onnx import TensorProto

    from vis4mer.runtime.backends.base import Graph
    from vis4mer.runtime.backends.registry import open_with

    target = OnnxTarget()
    model = onnx.load(path, load_external_data=False)
    if all(tensor.data_type != TensorProto.BFLOAT16 for tensor in model.graph.initializer):
        return open_written(target, source, path, CPU)
    model = onnx.load(path)
    _emulate_bfloat16(model.graph)
    return open_with(target.backend, Graph(source.name, source.interface, model.SerializeToString()), CPU)


def _remove_origins(model: "ir.Model") -> None:
    """Removes the exporter's notes on which source line made what: they hold paths of the exporting machine."""
    import onnx_ir as ir

    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


def _emulate_bfloat16(graph: "onnx.GraphProto") -> None:
    """Replaces bf16 by fp32 values that are rounded to bf16 where they are computed.

    That is what a bf16 unit with fp32 accumulation computes: products of bf16 numbers are exact in fp32, sums are
    accumulated in fp32, and only the result is rounded. The rounding is a cast to bf16 and back, the only bf16 operator
    of ONNX Runtime's CPU provider.
    """
    from onnx import TensorProto, helper, numpy_helper

    half = {info.name for info in graph.value_info if info.type.tensor_type.elem_type == TensorProto.BFLOAT16}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    nodes = list(graph.node)
    # The types recorded with intermediate values are no longer true.
    del graph.node[:], graph.value_info[:]
    for node in nodes:
        rounded = [name for name in node.output if name in half]
        node.output[:] = [f"{name}.wide" if name in half else name for name in node.output]
        if node.op_type == "Cast" and rounded:  # a cast to bf16: the rounding below replaces it
            node.attribute[0].i = TensorProto.FLOAT
        graph.node.append(node)
        for name in rounded:
            graph.node.append(helper.make_node("Cast", [f"{name}.wide"], [f"{name}.bf16"], to=TensorProto.BFLOAT16))
            graph.node.append(helper.make_node("Cast", [f"{name}.bf16"], [name], to=TensorProto.FLOAT))
