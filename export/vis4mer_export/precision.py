"""Half precision written into the graph: matrix products in fp16 or bf16, everything around them in fp32.

Runtimes that are strongly typed (TensorRT 11) or that pick types on their own (autocast) leave no other place for the
choice. Weights are stored in half precision; layer norms, softmax, scans, pooling, means and residuals stay in fp32.
"""

import copy
from collections.abc import Mapping

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from vis4mer.runtime.bundle import Precision

DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def in_precision(module: nn.Module, precision: Precision) -> nn.Module:
    """A copy of `module`, which takes and gives fp32, with its matrix products in `precision`.

    Args:
        module: an encoder, or a frozen decoder; in evaluation mode.
        precision: ``fp32`` gives `module` itself.
    """
    if precision == "fp32":
        return module
    # ONNX's Conv takes no bf16 before opset 22; a ViT's only convolution is its patch embedding, 0.3 % of its products.
    layers: tuple[type[nn.Module], ...] = (nn.Linear,) if precision == "bf16" else (nn.Linear, nn.Conv2d)
    typed = copy.deepcopy(module)
    _convert(typed, layers, DTYPES[precision])
    return typed


def _convert(parent: nn.Module, layers: tuple[type[nn.Module], ...], dtype: torch.dtype) -> None:
    for name, child in parent.named_children():
        if isinstance(child, layers) or (type(child) is Mlp and isinstance(child.norm, nn.Identity)):
            setattr(parent, name, _InHalf(child, dtype))
        elif type(child) is Attention and child.gate is None:
            setattr(parent, name, _HalfAttention(child, dtype))
        else:
            _convert(child, layers, dtype)
    for name in getattr(parent, "PRODUCTS", ()):
        setattr(parent, name, parent.get_buffer(name).to(dtype))


class _InHalf(nn.Module):
    """Layers whose weights are stored, and whose products are computed, in half precision."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.to(self.dtype))
        return y.to(torch.float32)


class _HalfAttention(nn.Module):
    """timm's attention with both products in half precision and the softmax between them in fp32."""

    def __init__(self, attention: Attention, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.proj = _InHalf(attention.qkv, dtype), _InHalf(attention.proj, dtype)
        self.q_norm, self.k_norm, self.norm = attention.q_norm, attention.k_norm, attention.norm

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        assert attn_mask is None and not is_causal, "an image transformer attends to all tokens"
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = (self.q_norm(q) * self.scale).to(self.dtype), self.k_norm(k).to(self.dtype)
        weights = torch.matmul(q, k.transpose(-2, -1)).to(torch.float32).softmax(dim=-1)
        y = torch.matmul(weights.to(self.dtype), v.to(self.dtype)).transpose(1, 2).reshape(batch, tokens, -1)
        result: Tensor = self.proj(self.norm(y.to(torch.float32)))
        return result
