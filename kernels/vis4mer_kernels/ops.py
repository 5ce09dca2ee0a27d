"""The two operations of an S4 layer: native ops where they are built, `reference` elsewhere."""

import torch
from torch import Tensor

from vis4mer_kernels import reference
from vis4mer_kernels.library import Impl, native
from vis4mer_kernels.reference import FrequencyGrid, StateSpace


def ssm_kernel(space: StateSpace, grid: FrequencyGrid, impl: Impl = "auto") -> Tensor:
    """Computes the SSM convolution kernel [H, grid.taps]; see `reference.ssm_kernel`.

    The native op computes the spectrum from the poles in one pass: nothing of the size of the Cauchy matrix [H, M, N]
    is stored, and the backward pass evaluates it again.

    Args:
        space: State spaces; their C is C~ for the grid's L.
        grid: Frequencies, in the precision of the parameters.
        impl: Implementation: ``native``, ``reference``, or ``auto`` for native ops where they are built.

    Raises:
        OpsError: Native ops are requested and absent, or the library is broken.
    """
    if not native(impl, space.log_dt.device.type):
        return reference.ssm_kernel(space, grid)
    dt, poles, residues = reference.resolvent(space)
    spectrum = torch.ops.vis4mer.ssm_spectrum(
        dt.contiguous(),
        _real_pairs(poles),
        _real_pairs(residues),
        _real_pairs(grid.numerator),
        grid.beta,
        _real_pairs(grid.factor),
    )
    # The inverse transform is left to PyTorch, which has it, and its derivative, on every device.
    kernel: Tensor = torch.fft.irfft(torch.view_as_complex(spectrum), n=grid.taps)
    return kernel


def long_conv(u: Tensor, kernel: Tensor, D: Tensor, impl: Impl = "auto") -> Tensor:
    """Computes a causal convolution with a skip; see `reference.long_conv`.

    Args:
        u: Signal [B, H, L]. The native op reads and writes memory in the order [B, L, H], so a transposed view of such
            a tensor is not copied.
        kernel: Taps [H, K].
        D: Skip weights [H].
        impl: Implementation: ``native``, ``reference``, or ``auto`` for native ops where they are built.

    Returns:
        y [B, H, L], in u's dtype; accumulated in float32 at least.

    Raises:
        OpsError: Native ops are requested and absent, or the library is broken.
    """
    if not native(impl, u.device.type):
        return reference.long_conv(u, kernel, D)
    signal = u.transpose(1, 2).contiguous()
    accumulated = torch.promote_types(u.dtype, torch.float32)
    # Taps beyond the signal never reach an output. Half precision would lose the small terms of a long sum.
    taps = kernel[..., : u.shape[-1]].to(accumulated).contiguous()
    y: Tensor = torch.ops.vis4mer.long_conv(signal, taps, D.to(accumulated).contiguous())
    return y.transpose(1, 2)


def _real_pairs(z: Tensor) -> Tensor:
    """Complex [...] to real pairs [..., 2], the form that the native ops take."""
    return torch.view_as_real(z.resolve_conj()).contiguous()
