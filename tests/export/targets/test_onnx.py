"""Attention as it stands in ONNX graphs: in a form that runtimes fuse."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from vis4mer.config import Preprocessing
from vis4mer.errors import ConfigError, ExportError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.runtime.interface import GraphInterface, TensorSpec
from vis4mer_export.precision import in_precision
from vis4mer_export.targets.base import GraphSource
from vis4mer_export.targets.onnx import OnnxTarget, open_on_cpu, write_onnx


def encoder_source(precision: Any) -> GraphSource:
    torch.manual_seed(0)
    encoder = FrameEncoder.build("test_vit", Preprocessing(height=64, width=64), "random").eval()
    interface = GraphInterface(
        (TensorSpec("frames", "uint8", ("batch", 64, 64, 3)),), (TensorSpec("tokens", "float32", ("batch", 17, 64)),)
    )
    example = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    return GraphSource("encoder", in_precision(encoder, precision), example, interface, precision)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)],
)
def test_attention_is_one_pattern_in_one_type(precision: str, kind: int, tmp_path: Path) -> None:
    """TensorRT fuses Mul, MatMul, Softmax and MatMul, but not with casts or reshapes between them."""
    path = tmp_path / "encoder.onnx"
    write_onnx(encoder_source(precision), path)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    made_by = {name: node for node in graph.node for name in node.output}
    users = {name: [node for node in graph.node if name in node.input] for name in made_by}
    types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
    assert len(softmaxes) == 6
    for softmax in softmaxes:
        product = made_by[softmax.input[0]]
        assert (product.op_type, made_by[product.input[0]].op_type) == ("MatMul", "Mul")
        assert made_by[product.input[1]].op_type == "Transpose"
        assert [node.op_type for node in users[softmax.output[0]]] == ["MatMul"]
        tensors = {*product.input, *softmax.input, *softmax.output, *users[softmax.output[0]][0].output}
        assert {types[name] for name in tensors} == {kind}


@pytest.mark.parametrize(("precision", "largest"), [("fp32", 1e-5), ("fp16", 4e-3), ("bf16", 3e-2)])
def test_opset_23_has_attention_as_one_operator(precision: str, largest: float, tmp_path: Path) -> None:
    source, path = encoder_source(precision), tmp_path / "encoder.onnx"
    built = OnnxTarget().build(source, path, {"opset": 23})
    model = onnx.load(path)
    assert (model.opset_import[0].version, built.notes) == (23, {"opset": 23})
    types = [node.op_type for node in model.graph.node]
    assert (types.count("Attention"), types.count("Softmax")) == (6, 0)
    expected = encoder_source("fp32").module(source.example).detach().numpy()
    error = np.linalg.norm(built.run(source.example.numpy()) - expected) / np.linalg.norm(expected)
    assert 0 < error < largest


def test_other_opsets_are_refused() -> None:
    assert OnnxTarget().parse_options({}) == {"opset": 20}
    with pytest.raises(ConfigError, match=r"^opset='21': must be 20 or 23$"):
        OnnxTarget().parse_options({"opset": 21})


class MaskedAttention(nn.Module):
    def __init__(self, mask: Tensor | None, causal: bool = False) -> None:
        super().__init__()
        self.mask = nn.Buffer(mask)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = x.unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        return nn.functional.scaled_dot_product_attention(q, k, v, self.mask, is_causal=self.causal).flatten(1)


def masked_source(module: nn.Module) -> GraphSource:
    interface = GraphInterface(
        (TensorSpec("x", "float32", ("batch", 5, 48)),), (TensorSpec("y", "float32", ("batch", 80)),)
    )
    return GraphSource("encoder", module.eval(), torch.randn(2, 5, 48), interface, "fp32")


@pytest.mark.parametrize("mask", [torch.randn(1, 2, 5, 5), torch.ones(5, 5).tril().bool()])
def test_masks_are_part_of_the_graph(mask: Tensor, tmp_path: Path) -> None:
    """Windowed encoders such as Swin add a bias for positions and exclude tokens of other windows."""
    torch.manual_seed(0)
    source = masked_source(MaskedAttention(mask))
    write_onnx(source, tmp_path / "encoder.onnx")
    x = torch.randn(3, 5, 48)
    with torch.inference_mode():
        expected = source.module(x).numpy()
    result = open_on_cpu(source, tmp_path / "encoder.onnx")(x.numpy())
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_causal_attention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^encoder.onnx: ONNX export failed: "):
        write_onnx(masked_source(MaskedAttention(None, causal=True)), tmp_path / "encoder.onnx")
