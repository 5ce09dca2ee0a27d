"""Half precision written into the graph: matrix products in fp16 or bf16, everything around them in fp32.

Runtimes are strongly typed (TensorRT 11) or choose types themselves (autocast), so the choice must be made in
the graph. Weights are stored in half precision. Layer norms, scans, pooling, means and residuals stay in fp32: they sum
many terms or take small differences, and cost little.
"""

import copy
from collections.abc import Mapping

import torch
from einops import rearrange
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from vis4mer.runtime.manifest import Precision

DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def in_precision(module: nn.Module, precision: Precision) -> nn.Module:
    """Returns a copy of a module with its matrix products in `precision`; inputs and outputs stay fp32.

    Args:
        module: Encoder or frozen decoder, in evaluation mode.
        precision: Precision of the products; for ``fp32`` the module itself is returned.
    """
    if precision == "fp32":
        return module
    # ONNX's Conv does not take bf16 before opset 22. A ViT's only convolution is its patch embedding, 0.3 % of its
    # products, so it stays in fp32.
    layers: tuple[type[nn.Module], ...] = (nn.Linear,) if precision == "bf16" else (nn.Linear, nn.Conv2d)
    typed = copy.deepcopy(module)
    _convert(typed, layers, DTYPES[precision])
    return typed


def _convert(parent: nn.Module, layers: tuple[type[nn.Module], ...], dtype: torch.dtype) -> None:
    """Replaces, in place, all modules below `parent` that consist of matrix products."""
    for name, child in parent.named_children():
        # A whole MLP in half precision avoids the conversions around its activation, but would include its norm.
        if isinstance(child, layers) or (type(child) is Mlp and isinstance(child.norm, nn.Identity)):
            setattr(parent, name, _InHalf(child, dtype))
        # Exact types only: a subclass may compute something else, and its linear layers are still replaced one by one.
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
    """timm's attention in half precision, written so that runtimes recognise it and run it as one fused kernel.

    A fused kernel keeps the products and the softmax between them in fp32 registers, and only its result is rounded. A
    softmax that the graph computes in fp32 prevents the fusion: the matrices of attention weights then go through
    memory several times. Nor was it more accurate: two ViTs with random weights, at logits of up to 1,800, had errors
    from 22 % smaller to 2 % larger with fused attention on the CPU.
    """

    def __init__(self, attention: Attention, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.proj = attention.qkv.to(dtype), attention.proj.to(dtype)
        self.q_norm, self.k_norm, self.norm = attention.q_norm, attention.k_norm, attention.norm

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        assert attn_mask is None and not is_causal, "an image transformer attends to all tokens"
        qkv = self.qkv(x.to(self.dtype))
        q, k, v = rearrange(qkv, "b p (three h d) -> three b h p d", three=3, h=self.heads).unbind(0)
        q, k = self._normalised(self.q_norm, q), self._normalised(self.k_norm, k)
        y = nn.functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        result: Tensor = self.proj(self._normalised(self.norm, rearrange(y, "b h p d -> b p (h d)")))
        return result.to(torch.float32)

    def _normalised(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Applies a norm, which computes in fp32; most attentions have none."""
        if isinstance(norm, nn.Identity):
            return x
        normalised: Tensor = norm(x.to(torch.float32)).to(self.dtype)
        return normalised
