"""Attention as ONNX operators. Imported only where a graph is written, because it imports onnxscript."""

import math
from typing import Any

import onnx_ir as ir
from onnxscript import opset20 as op


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Writes ``torch.nn.functional.scaled_dot_product_attention`` as the operators that TensorRT fuses.

    PyTorch's own translation also reshapes the keys by sizes that it reads at run time, a dozen operators a layer.

    Args:
        query: Value ``[B, heads, P, D]`` of the graph.
        key: Value ``[B, heads, P, D]``.
        value: Value ``[B, heads, P, D]``.
        attn_mask: Terms that are added to the logits, or booleans that are false where attention is not allowed.
        dropout_p: Ignored, because graphs are written in evaluation mode.
        is_causal: Not supported; no frame encoder needs it.
        scale: Factor of the logits; 1 / sqrt(D) if None.
        enable_gqa: Not supported.

    Raises:
        ValueError: The attention is causal or has grouped queries.
    """
    if is_causal or enable_gqa:
        raise ValueError("causal attention and grouped queries cannot be written to ONNX")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    # Scaling the queries rather than the products keeps the products within fp16's range.
    scaled = op.Mul(query, _constant(factor, query))
    logits = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None and attn_mask.dtype == ir.DataType.BOOL:
        logits = op.Where(attn_mask, logits, _constant(-math.inf, query))
    elif attn_mask is not None:
        logits = op.Add(logits, attn_mask)
    return op.MatMul(op.Softmax(logits, axis=-1), value)


def _constant(number: float, like: Any) -> Any:
    """Writes a scalar of the same type as the value `like`."""
    return op.Constant(value=ir.to_proto(ir.tensor(number, dtype=like.dtype)))
