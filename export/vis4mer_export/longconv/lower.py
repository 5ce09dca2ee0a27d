"""Replaces a trained convolution by a fixed one: the first candidate that is accurate enough."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError
from vis4mer.models.s4 import SSMConv
from vis4mer.runtime.manifest import Precision
from vis4mer_export.longconv import Lowering
from vis4mer_export.longconv.blocked_toeplitz import BlockedToeplitzConv
from vis4mer_export.longconv.fft import FFTConv
from vis4mer_export.longconv.matmul_dft import MatmulDFTConv
from vis4mer_export.precision import in_precision

# Largest relative L2 error against a double-precision convolution. In fp32 a tenth of the whole graph's parity
# tolerance, so that the other layers have most of it to themselves.
LOWERING_TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 2e-2}

# Mean of a channel relative to a standard deviation of 1 over time, as in the tokens of a film that hardly changes.
_CONSTANT = 10.0


@dataclass(frozen=True)
class Lowered:
    """One block's fixed convolution.

    Attributes:
        module: Maps [B, H, L] to [B, H, L].
        lowering: Name of the lowering.
        relative_l2: Error against a double-precision convolution of random input.
        skipped: Preferred candidates that were not taken, each with the reason.
    """

    module: nn.Module
    lowering: Lowering
    relative_l2: float
    skipped: tuple[str, ...] = ()


def lower(conv: SSMConv, length: int, candidates: Sequence[Lowering], precision: Precision = "fp32") -> Lowered:
    """Builds the fixed convolution of one block.

    Whether a lowering is accurate enough depends on the trained kernel and on the precision, so each candidate is built
    and measured.

    Args:
        conv: The trained layer; it is not modified.
        length: L, length of the sequences.
        candidates: Lowerings to try, in order of preference.
        precision: Precision in which the constants of the matrix products are stored.

    Raises:
        ExportError: No candidate stays within the tolerance.
    """
    kernel = fixed_kernel(conv)
    tolerance = LOWERING_TOLERANCES[precision]
    skipped = []
    for name in candidates:
        if name == "blocked_toeplitz" and conv.omega is not None:
            # With rounded roots of unity and a lost last tap, no recurrence generates the kernel.
            skipped.append(f"{name}: the stored kernel is not exactly a state space's")
            continue
        module = in_precision(_build(name, conv, kernel, length), precision)
        error = _relative_error(module, kernel, length)
        if error <= tolerance:
            return Lowered(module, name, error, tuple(skipped))
        skipped.append(f"{name}: relative error {error:.1e} exceeds {tolerance:.0e}")
    raise ExportError.of("lowering", ", ".join(candidates), "; ".join(skipped), "choose another, or auto")


def fixed_kernel(conv: SSMConv) -> Tensor:
    """Returns the kernel [H, taps] of a layer's linear part, in double precision; the skip D is in its first tap."""
    with torch.no_grad():
        exact = copy.deepcopy(conv).double()
        kernel = exact.ssm_kernel()
        # In place, although the layer caches its kernel: the copy, and its cache, end with this function.
        kernel[:, 0] += exact.D
    return kernel


def _build(name: Lowering, conv: SSMConv, kernel: Tensor, length: int) -> nn.Module:
    match name:
        case "fft":
            return FFTConv(kernel, length)
        case "blocked_toeplitz":
            return BlockedToeplitzConv(conv, length)
        case "matmul_dft":
            return MatmulDFTConv(kernel, length)


def _relative_error(module: nn.Module, kernel: Tensor, length: int) -> float:
    """Returns the larger of two relative errors: for noise, and for noise around a constant.

    Noise cancels in a transform's sums and in slow states, where a constant accumulates. An unstable state space
    returns NaN, which must fail every tolerance.
    """
    # The seed is fixed, so that a model is lowered in the same way at every export.
    noise = torch.randn(1, kernel.shape[0], length, generator=torch.Generator().manual_seed(0))
    u = torch.cat([noise, noise + _CONSTANT])
    n = length + kernel.shape[-1]  # long enough for a linear convolution by FFT
    exact = torch.fft.irfft(torch.fft.rfft(u.double(), n=n) * torch.fft.rfft(kernel, n=n), n=n)[..., :length]
    with torch.inference_mode():
        errors = (module(u).double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    return float(errors.nan_to_num(nan=float("inf")).max())
