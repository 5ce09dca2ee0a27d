"""HiPPO-LegS, the state matrix that remembers a signal's history as Legendre coefficients."""

from typing import NamedTuple

import torch
from torch import Tensor


class NPLR(NamedTuple):
    """HiPPO-LegS in the eigenbasis of its normal part: ``A = diag(w) - P P^*``, one of each conjugate pair.

    Attributes:
        w: [N/2], complex128; real part -1/2, imaginary part positive.
        P: [N/2], complex128.
        B: [N/2], complex128.
    """

    w: Tensor
    P: Tensor
    B: Tensor


def legs(d_state: int) -> tuple[Tensor, Tensor]:
    """The dense HiPPO-LegS matrices A [N, N] and B [N], float64.

    Reference: Gu et al., HiPPO (NeurIPS 2020), theorem 2; S4 paper, equation 2.
    """
    n = torch.arange(d_state, dtype=torch.float64)
    scale = torch.sqrt(2 * n + 1)
    A = -torch.tril(scale[:, None] * scale[None, :], diagonal=-1) - torch.diag(n + 1)
    return A, scale


def legs_nplr(d_state: int) -> NPLR:
    """HiPPO-LegS as normal plus low rank: adding ``P P^T``, P = sqrt(n + 1/2), leaves -1/2 I plus a skew matrix.

    Args:
        d_state: N, even.

    Reference: S4 paper, theorem 1 and section C.1.
    """
    A, B = legs(d_state)
    P = torch.sqrt(torch.arange(d_state, dtype=torch.float64) + 0.5)
    skew = A + P[:, None] * P[None, :] + 0.5 * torch.eye(d_state, dtype=torch.float64)
    # A real skew matrix times -i is Hermitian, and eigh is exact where a general eigensolver is not.
    frequencies, V = torch.linalg.eigh(skew * -1j)
    positive = frequencies > 0
    basis = V[:, positive].mH
    w = torch.complex(torch.full_like(frequencies[positive], -0.5), frequencies[positive])
    return NPLR(w, basis @ P.to(basis.dtype), basis @ B.to(basis.dtype))
