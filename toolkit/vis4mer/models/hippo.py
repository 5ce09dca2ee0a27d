"""HiPPO-LegS: the state matrix whose state holds a signal's history as Legendre coefficients."""

from typing import NamedTuple

import torch
from torch import Tensor


class NPLR(NamedTuple):
    """HiPPO-LegS as normal plus low rank, ``A = diag(w) - P P^*``, in the eigenbasis of its normal part.

    Eigenvalues come in conjugate pairs, of which one member is kept.

    Attributes:
        w: [N/2], complex128; eigenvalues, with real part -1/2 and positive imaginary part.
        P: [N/2], complex128; factor of the low-rank term.
        B: [N/2], complex128; input column.
    """

    w: Tensor
    P: Tensor
    B: Tensor


def legs(d_state: int) -> tuple[Tensor, Tensor]:
    """Returns the dense HiPPO-LegS matrices A [N, N] and B [N], float64.

    Reference: Gu et al., HiPPO (NeurIPS 2020), theorem 2; S4 paper, equation 2.
    """
    n = torch.arange(d_state, dtype=torch.float64)
    scale = torch.sqrt(2 * n + 1)
    A = -torch.tril(scale[:, None] * scale[None, :], diagonal=-1) - torch.diag(n + 1)
    return A, scale


def legs_nplr(d_state: int) -> NPLR:
    """Diagonalises HiPPO-LegS up to a rank-1 term.

    With ``P[n] = sqrt(n + 1/2)``, the sum ``A + P P^T`` is -1/2 I plus a skew-symmetric matrix: normal, so it is
    unitarily diagonalisable, with eigenvalues -1/2 + i times real frequencies.

    Args:
        d_state: N, even.

    Reference: S4 paper, theorem 1 and section C.1.
    """
    A, B = legs(d_state)
    P = torch.sqrt(torch.arange(d_state, dtype=torch.float64) + 0.5)
    skew = A + P[:, None] * P[None, :] + 0.5 * torch.eye(d_state, dtype=torch.float64)
    # A real skew-symmetric matrix times -i is Hermitian. Unlike a general eigensolver, eigh returns real frequencies
    # and a unitary basis, both accurate to rounding.
    frequencies, V = torch.linalg.eigh(skew * -1j)
    # A real matrix has eigenvalues in conjugate pairs; the kernel adds the other half of each pair.
    positive = frequencies > 0
    to_eigenbasis = V[:, positive].mH
    w = torch.complex(torch.full_like(frequencies[positive], -0.5), frequencies[positive])
    return NPLR(w, to_eigenbasis @ P.to(V.dtype), to_eigenbasis @ B.to(V.dtype))
