"""Puts a fixed convolution in the place of a trained one, and says which and how exactly it computes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError
from vis4mer.models.s4 import SSMConv
from vis4mer.runtime.bundle import Format, Precision
from vis4mer_export.longconv.blocked_toeplitz import BlockedToeplitzConv
from vis4mer_export.longconv.fft import FFTConv
from vis4mer_export.longconv.matmul_dft import MatmulDFTConv
from vis4mer_export.precision import in_precision

Lowering = Literal["fft", "blocked_toeplitz", "matmul_dft"]

# Largest relative L2 error against a double-precision convolution.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 2e-2}

# Per target, fastest first, as benchmarks/longconv.py measures them; those without FFT have no operator for it.
PREFERENCE: Mapping[Format, tuple[Lowering, ...]] = {
    "torchscript": ("fft", "blocked_toeplitz", "matmul_dft"),
    "pt2": ("fft", "matmul_dft", "blocked_toeplitz"),
    "onnx": ("blocked_toeplitz", "matmul_dft"),
    "trt": ("blocked_toeplitz", "matmul_dft"),
    "trt-rtx": ("blocked_toeplitz", "matmul_dft"),
}


# Mean of a channel against its noise of 1, as tokens of a film that hardly changes have.
_CONSTANT = 10.0


@dataclass(frozen=True)
class Lowered:
    """One block's fixed convolution.

    Attributes:
        module: from [B, H, L] to [B, H, L].
        lowering: what it is.
        relative_l2: its error against a double-precision convolution of random input.
        reason: why this lowering.
    """

    module: nn.Module
    lowering: Lowering
    relative_l2: float
    reason: str


def fixed_kernel(conv: SSMConv) -> Tensor:
    """The kernel [H, taps] of a layer's whole linear part in double precision; the skip D is in its first tap."""
    with torch.no_grad():
        exact = copy.deepcopy(conv).double()
        kernel = exact.ssm_kernel()
        kernel[:, 0] += exact.D
    return kernel


def lower(
    conv: SSMConv,
    length: int,
    target: Format,
    lowering: Lowering | Literal["auto"] = "auto",
    precision: Precision = "fp32",
) -> Lowered:
    """Chooses and builds the fixed convolution of one block.

    Args:
        conv: the trained layer; left as it is.
        length: L, of the sequences it will be given.
        target: of the export.
        lowering: ``auto`` takes the target's fastest one that computes this kernel within the tolerance.
        precision: in which the constants of its matrix products are stored.

    Raises:
        ExportError: the asked lowering does not exist on the target, or none keeps the tolerance.
    """
    usable = PREFERENCE[target]
    if lowering != "auto" and lowering not in usable:
        known = ", ".join(name for name in get_args(Lowering) if name in usable)
        raise ExportError(f"lowering={lowering!r}: the target {target} has no such operator; choose auto, {known}")
    kernel = fixed_kernel(conv)
    passed_over = []
    for name in usable if lowering == "auto" else (lowering,):
        if name == "blocked_toeplitz" and conv.omega is not None:
            passed_over.append(f"{name}: the stored kernel is not exactly a state space's")
            continue
        module = in_precision(_build(name, conv, kernel, length), precision)
        error = _relative_error(module, kernel, length)
        if error <= TOLERANCES[precision]:
            return Lowered(module, name, error, _reason(lowering, passed_over))
        passed_over.append(f"{name}: relative error {error:.1e} exceeds {TOLERANCES[precision]:.0e}")
    raise ExportError(f"lowering={lowering!r}: {'; '.join(passed_over)}; choose another or auto")


def _build(name: Lowering, conv: SSMConv, kernel: Tensor, length: int) -> nn.Module:
    match name:
        case "fft":
            return FFTConv(kernel, length)
        case "blocked_toeplitz":
            return BlockedToeplitzConv(conv, length)
        case "matmul_dft":
            return MatmulDFTConv(kernel, length)


def _reason(lowering: str, passed_over: list[str]) -> str:
    if lowering != "auto":
        return "asked for"
    return "fastest measured for this target" + "".join(f"; not {reason}" for reason in passed_over)


def _relative_error(module: nn.Module, kernel: Tensor, length: int) -> float:
    """The worse of noise and of noise on a constant; NaN, as of an unstable state space, is beyond any tolerance."""
    noise = torch.randn(1, kernel.shape[0], length, generator=torch.Generator().manual_seed(0))
    u = torch.cat([noise, noise + _CONSTANT])
    n = length + kernel.shape[-1]
    exact = torch.fft.irfft(torch.fft.rfft(u.double(), n=n) * torch.fft.rfft(kernel, n=n), n=n)[..., :length]
    with torch.inference_mode():
        errors = (module(u).double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    return float(errors.nan_to_num(nan=float("inf")).max())
