"""Linear layers that use the whole vector unit of AMD processors in float32.

PyTorch computes float32 products with MKL, which reaches about half the throughput of an AMD processor with AVX-512.
oneDNN, which PyTorch contains as well and uses for bfloat16, is about twice as fast there.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Multiplications in a product from which oneDNN is faster: it takes longer than MKL to start.
_WORTHWHILE = 1 << 22


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        return linear(input, self.weight, self.bias)


def with_fast_linears(module: nn.Module) -> None:
    """Converts the `torch.nn.Linear` layers of another library's `module` to `Linear`, in place."""
    for layer in module.modules():
        # Subclasses keep their own forward. A new class for the same object keeps parameters, hooks and names.
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes ``x W^T + b``, with oneDNN where that is faster and as `torch.nn.functional.linear` elsewhere.

    Products that are compiled, traced, exported or autocast, small, or of other types and devices stay with PyTorch.

    Args:
        x: [..., I].
        weight: [O, I].
        bias: [O].

    Returns:
        [..., O], with derivatives of any order.
    """
    if not _suits_onednn(x, weight):
        return nn.functional.linear(x, weight, bias)
    y: Tensor = _OneDnnLinear.apply(x, weight, bias)
    return y


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    # A graph that leaves this process must not hold an op of this machine.
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
    """Returns whether this processor has vector units that MKL leaves idle, and PyTorch contains oneDNN."""
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        amd = False
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


class _OneDnnLinear(torch.autograd.Function):
    """TorchInductor's op for linear layers, with the derivatives that it lacks."""

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
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        # Through `linear` again: these products are as large, and they have derivatives in turn.
        return (
            linear(grad, weight.t()) if needs_x else None,
            linear(rows.t(), x.flatten(0, -2).t()) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )
