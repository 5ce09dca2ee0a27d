"""The ONNX target: one file a graph, batch-dynamic, checked before it is handed over."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError

# The first opset with Gelu as one operator, which runtimes fuse into the product before it.
OPSET = 20


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
        program.save(path)
        onnx.checker.check_model(path, full_check=True)
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError) as error:
        logging.getLogger(__name__).debug("ONNX export of %s failed", path.name, exc_info=True)
        raise ExportError(f"{path.name}: ONNX export failed: {str(error).splitlines()[0]}") from None
    _check_interface(path, input_name, output_name)


def _check_interface(path: Path, input_name: str, output_name: str) -> None:
    graph = onnx.load(path, load_external_data=False).graph
    for values, name in ((graph.input, input_name), (graph.output, output_name)):
        names = [value.name for value in values]
        if names != [name]:
            raise ExportError(f"{path.name}: has {names} where [{name!r}] was asked for")
        first = values[0].type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise ExportError(f"{path.name}: the first axis of {name!r} is fixed at {first.dim_value}, not dynamic")
