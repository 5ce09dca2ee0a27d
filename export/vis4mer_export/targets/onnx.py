"""The ONNX target: one file a graph, batch-dynamic, checked before it is handed over."""

import logging
import warnings
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from vis4mer.devices.device import CPU
from vis4mer.errors import ExportError
from vis4mer.runtime.backends.onnx import EXTERNAL_SUFFIX, OnnxRunner

# The first opset with Gelu as one operator, which runtimes fuse into the product before it.
OPSET = 20

# Beyond it weights go to a file of their own: a protobuf message ends at 2 GiB.
_LARGEST_FILE_BYTES = 1_900_000_000


def export_graph(module: nn.Module, example: Tensor, path: Path, input_name: str, output_name: str) -> None:
    """Writes `module` as an ONNX file with one input and one output whose first axis is dynamic.

    Args:
        module: in evaluation mode.
        example: an input; its first axis must be at least 2, since tracing would take 1 for a constant.
        path: of the file to write.
        input_name: of the graph's input.
        output_name: of the graph's output.

    Raises:
        ExportError: the exporter or the checker refuses the graph, or it has other inputs or outputs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations are not the user's
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=[output_name],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1 << 16)},),
            )
        assert program is not None
        _forget_origins(program.model)
        size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
        program.save(path, external_data=size > _LARGEST_FILE_BYTES)
        onnx.checker.check_model(path, full_check=True)
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError) as error:
        logging.getLogger(__name__).debug("ONNX export of %s failed", path.name, exc_info=True)
        raise ExportError(f"{path.name}: ONNX export failed: {str(error).splitlines()[0]}") from None
    _check_interface(path, input_name, output_name)


def _forget_origins(model: ir.Model) -> None:
    """Drops the exporter's notes of which source line made what: they hold the paths of the exporting machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


def cpu_runner(path: Path, name: str) -> OnnxRunner:
    """Opens a written graph on the CPU, for comparing it with the model.

    ONNX Runtime's CPU provider has no bf16 arithmetic. Every bf16 value becomes an fp32 one that is rounded to bf16
    where it is made, which is what a bf16 unit with fp32 accumulation computes. Other graphs run as they are.

    Args:
        path: of a file that `export_graph` wrote.
        name: of the graph, for errors.
    """
    model = onnx.load(path, load_external_data=False)
    if any(tensor.data_type == TensorProto.BFLOAT16 for tensor in model.graph.initializer):
        model = onnx.load(path)
        _widen_bfloat16(model.graph)
        return OnnxRunner(model.SerializeToString(), name, CPU)
    data = path.with_name(path.name + EXTERNAL_SUFFIX)
    return OnnxRunner(path.read_bytes(), name, CPU, weights=data.read_bytes() if data.exists() else b"")


def _widen_bfloat16(graph: onnx.GraphProto) -> None:
    half = {info.name for info in graph.value_info if info.type.tensor_type.elem_type == TensorProto.BFLOAT16}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    nodes = list(graph.node)
    del graph.node[:], graph.value_info[:]
    for node in nodes:
        rounded = [name for name in node.output if name in half]
        node.output[:] = [f"{name}.wide" if name in half else name for name in node.output]
        if node.op_type == "Cast" and rounded:
            node.attribute[0].i = TensorProto.FLOAT
        graph.node.append(node)
        for name in rounded:
            graph.node.append(helper.make_node("Cast", [f"{name}.wide"], [f"{name}.bf16"], to=TensorProto.BFLOAT16))
            graph.node.append(helper.make_node("Cast", [f"{name}.bf16"], [name], to=TensorProto.FLOAT))


def _check_interface(path: Path, input_name: str, output_name: str) -> None:
    graph = onnx.load(path, load_external_data=False).graph
    for values, name in ((graph.input, input_name), (graph.output, output_name)):
        names = [value.name for value in values]
        if names != [name]:
            raise ExportError(f"{path.name}: has {names} where [{name!r}] was asked for")
        first = values[0].type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise ExportError(f"{path.name}: the first axis of {name!r} is fixed at {first.dim_value}, not dynamic")
