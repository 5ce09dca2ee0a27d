"""Registration of the native ops' output shapes and derivatives with PyTorch."""

from typing import Any

import torch
from torch import Tensor

from vis4mer.errors import OpsError


def register() -> None:
    """Registers shapes, for tracing without data, and derivatives; the library must have defined the ops."""
    torch.library.register_fake("vis4mer::ssm_spectrum", _spectrum_shape)
    torch.library.register_fake("vis4mer::ssm_spectrum_backward", _spectrum_backward_shape)
    torch.library.register_fake("vis4mer::long_conv", _conv_shape)
    torch.library.register_fake("vis4mer::long_conv_backward", _conv_backward_shape)
    torch.library.register_autograd("vis4mer::ssm_spectrum", _spectrum_backward, setup_context=_save_inputs)
    torch.library.register_autograd("vis4mer::long_conv", _conv_backward, setup_context=_save_inputs)


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _spectrum_shape(
    dt: Tensor, poles: Tensor, residues: Tensor, numerator: Tensor, beta: Tensor, factor: Tensor
) -> Tensor:
    return dt.new_empty(dt.shape[0], beta.shape[0], 2)


def _spectrum_backward_shape(grad: Tensor, dt: Tensor, poles: Tensor, residues: Tensor, *grid: Tensor) -> Any:
    return tuple(map(torch.empty_like, (dt, poles, residues)))


def _spectrum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    _refuse_second_derivatives()
    # Gradients are often expanded scalars, whose strides are zero; the native ops take contiguous memory.
    grads = torch.ops.vis4mer.ssm_spectrum_backward(grad.contiguous(), *ctx.saved_tensors)
    return (*grads, None, None, None)  # the grid is constant


def _conv_shape(u: Tensor, kernel: Tensor, D: Tensor) -> Tensor:
    return torch.empty_like(u)


def _conv_backward_shape(grad: Tensor, u: Tensor, kernel: Tensor, D: Tensor) -> Any:
    return tuple(map(torch.empty_like, (u, kernel, D)))


def _conv_backward(ctx: Any, grad: Tensor) -> Any:
    _refuse_second_derivatives()
    return torch.ops.vis4mer.long_conv_backward(grad.contiguous(), *ctx.saved_tensors)


def _refuse_second_derivatives() -> None:
    # Gradients are enabled during a backward pass only with create_graph=True. The backward ops have no derivatives of
    # their own: their results would count as constants, and second derivatives would be wrong.
    if torch.is_grad_enabled():
        raise OpsError.of(
            "create_graph", True, "native ops have no second derivatives", "set VIS4MER_OPS=reference for them"
        )
