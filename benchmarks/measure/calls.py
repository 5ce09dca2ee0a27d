"""The calls that are measured of a decoder, inference and training step, with a chosen implementation of its ops."""

import os
import sys
from collections.abc import Callable
from typing import TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

from vis4mer_kernels import linear
from vis4mer_kernels.library import IMPL_VARIABLE, library

T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@torch.inference_mode()
def forward(decoder: nn.Module, features: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Computes the logits [B, d_output] of features [B, L, d_input] in evaluation mode; bf16 means autocast."""
    decoder.eval()
    with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = decoder(features)
    return logits


def step(decoder: nn.Module, features: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Runs forward and backward in training mode, without the optimiser; discards the gradients at the end."""
    decoder.train()
    _loss(decoder, features, dtype).backward()  # type: ignore[no-untyped-call]
    decoder.zero_grad(set_to_none=True)


def gradients(decoder: nn.Module, features: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the gradients of a step without dropout, flattened and joined in the order of the parameters' names."""
    decoder.eval()
    parameters = [parameter for _, parameter in sorted(decoder.named_parameters())]
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(_loss(decoder, features, dtype), parameters)])


def _loss(decoder: nn.Module, features: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
        loss: Tensor = decoder(features).float().square().mean()
    return loss


def impls(device: str = "cpu") -> tuple[str, ...]:
    """Returns the implementations of S4's two ops that run on `device`; warns on stderr if the native ops do not."""
    if device in library().devices:
        return "reference", "native"
    print(f"warning: no native ops for {device}: {library().reason}", file=sys.stderr)
    return ("reference",)


def by_pytorch(call: Callable[[], T]) -> Callable[[], T]:
    """Returns `call` with every matrix product computed by the library that PyTorch chooses."""

    def run() -> T:
        with patch.object(linear, "onednn_is_faster", lambda: False):
            return call()

    return run


def by_ops(impl: str, call: Callable[[], T]) -> Callable[[], T]:
    """Returns `call` with one implementation of S4's ops, ``reference`` or ``native``."""

    def run() -> T:
        with patch.dict(os.environ, {IMPL_VARIABLE: impl}):
            return call()

    return run
