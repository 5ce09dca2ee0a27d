"""What PyTorch must know of the native ops beyond their results: shapes and derivatives."""

from typing import Any

import torch
from torch import Tensor

from vis4mer.errors import OpsError


def register() -> None:
    """Registers shapes and derivatives, once the library has defined the ops."""
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


def _spectrum_backward_shape(grad: Tensor, dt: Tensor, poles: Tensor, residues: Tensor, *nodes: Tensor) -> Any:
    return tuple(map(torch.empty_like, (dt, poles, residues)))


def _refuse_second_derivatives() -> None:
    if torch.is_grad_enabled():  # in a backward pass, with create_graph=True only
        rule = "native ops have no second derivatives; set VIS4MER_OPS=reference for them"
        raise OpsError(f"create_graph=True: {rule}")


def _spectrum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    _refuse_second_derivatives()
    grads = torch.ops.vis4mer.ssm_spectrum_backward(grad.contiguous(), *ctx.saved_tensors)
    return (*grads, None, None, None)


def _conv_shape(u: Tensor, kernel: Tensor, D: Tensor) -> Tensor:
    return torch.empty_like(u)


def _conv_backward_shape(grad: Tensor, u: Tensor, kernel: Tensor, D: Tensor) -> Any:
    return tuple(map(torch.empty_like, (u, kernel, D)))


def _conv_backward(ctx: Any, grad: Tensor) -> Any:
    _refuse_second_derivatives()
    return torch.ops.vis4mer.long_conv_backward(grad.contiguous(), *ctx.saved_tensors)
