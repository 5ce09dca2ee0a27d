"""Linear layers that use the whole vector unit of AMD's processors in float32.

PyTorch hands float32 products to MKL, which reaches about half of what an AMD processor with AVX-512 can do. oneDNN,
which PyTorch carries too and uses for bfloat16, is about twice as fast there.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Multiplications of a product for which oneDNN's longer way to its first one is worth it.
_WORTHWHILE = 1 << 22


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        return linear(input, self.weight, self.bias)


def with_fast_linears(module: nn.Module) -> None:
    """Turns the `torch.nn.Linear` layers of `module`, which another library has built, into `Linear` ones, in place."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``, by oneDNN where that is faster, and by PyTorch's own choice elsewhere.

    What is compiled, traced, exported or autocast, small, or of other types and devices, is left to PyTorch.

    Args:
        x: [..., I].
        weight: [O, I].
        bias: [O].

    Returns:
        [..., O], differentiable backwards, as often as wished.
    """
    if not _suits_onednn(x, weight):
        return nn.functional.linear(x, weight, bias)
    y: Tensor = _OneDnnLinear.apply(x, weight, bias)
    return y


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if not torch.backends.mkldnn.enabled:
        return False
    if not all(t.dim() > 1 and t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight)):
        return False
    return x.numel() * weight.shape[0] >= _WORTHWHILE and onednn_is_faster()


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this processor has vector units that MKL leaves idle, and PyTorch has oneDNN."""
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        amd = False
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


class _OneDnnLinear(torch.autograd.Function):
    """The product that TorchInductor uses, which brings no derivative of its own."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            linear(grad, weight.t()) if wanted[0] else None,
            linear(rows.t(), x.flatten(0, -2).t()) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )
