"""The two operations of an S4 layer, by native ops where there are any and by `reference` elsewhere."""

import torch
from torch import Tensor

from vis4mer_kernels import reference
from vis4mer_kernels.library import Impl, native
from vis4mer_kernels.reference import Nodes


def ssm_kernel(
    log_dt: Tensor, w: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor, nodes: Nodes, impl: Impl = "auto"
) -> Tensor:
    """The SSM convolution kernel [H, taps]; see `reference.ssm_kernel`.

    The native op goes from poles to spectrum at once: nothing of the size of the Cauchy matrix [H, M, N] exists, and
    the backward pass computes it anew.

    Args:
        log_dt: [H].
        w: [N/2], complex.
        B: [H, N/2], complex, as are C, P and Q.
        C: see there.
        P: see there.
        Q: see there.
        nodes: where to evaluate, in the precision of the parameters.
        impl: ``native``, ``reference``, or ``auto`` for native ops where they are built.

    Raises:
        OpsError: native ops were asked for and are not there, or are broken.
    """
    if not native(impl, log_dt.device.type):
        return reference.ssm_kernel(log_dt, w, B, C, P, Q, nodes)
    dt, poles, residues = reference.resolvent(log_dt, w, B, C, P, Q)
    spectrum = torch.ops.vis4mer.ssm_spectrum(
        dt.contiguous(),
        _real_pairs(poles),
        _real_pairs(residues),
        _real_pairs(nodes.numerator),
        nodes.beta,
        _real_pairs(nodes.factor),
    )
    kernel: Tensor = torch.fft.irfft(torch.view_as_complex(spectrum), n=nodes.taps)
    return kernel


def long_conv(u: Tensor, kernel: Tensor, D: Tensor, impl: Impl = "auto") -> Tensor:
    """Causal convolution with a skip; see `reference.long_conv`.

    Args:
        u: [B, H, L]; read without a copy where H is the innermost axis in memory, and so is the result written.
        kernel: [H, K].
        D: [H].
        impl: ``native``, ``reference``, or ``auto`` for native ops where they are built.

    Returns:
        [B, H, L], in u's dtype; accumulated in float32 at least.

    Raises:
        OpsError: native ops were asked for and are not there, or are broken.
    """
    if not native(impl, u.device.type):
        return reference.long_conv(u, kernel, D)
    accumulated = torch.promote_types(u.dtype, torch.float32)
    taps = kernel[..., : u.shape[-1]].to(accumulated).contiguous()
    y: Tensor = torch.ops.vis4mer.long_conv(u.transpose(1, 2).contiguous(), taps, D.to(accumulated).contiguous())
    return y.transpose(1, 2)


def _real_pairs(z: Tensor) -> Tensor:
    return torch.view_as_real(z.resolve_conj()).contiguous()
