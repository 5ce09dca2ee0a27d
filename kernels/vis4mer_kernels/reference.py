"""The mathematics of S4, written once and readably; every faster path is tested against these functions.

Symbols are those of the S4 papers: H channels, N state size (N/2 conjugate pairs are stored), L taps. The state matrix
is ``A = diag(w) - P Q^*`` over the N conjugate-paired coordinates, the output is ``C^* x``, and the discretisation is
bilinear at step dt.

Reference: Gu, Goel & Ré, Efficiently Modeling Long Sequences with Structured State Spaces (ICLR 2022), section 3 and
appendix C.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements of the [H, nodes, N] Cauchy matrix held at once: 64 MiB of complex64.
_CAUCHY_CHUNK = 1 << 23


class Nodes(NamedTuple):
    """Where the generating function of an SSM convolution kernel is evaluated, for L//2 + 1 roots of unity.

    At the root ``omega = exp(-i theta)`` the function is ``factor / beta * R(numerator / beta)``, with the resolvent R
    of `ssm_kernel`; multiplied out, omega = -1, where z = numerator / beta is infinite, is an ordinary number.

    Attributes:
        numerator: [L//2 + 1], complex.
        beta: [L//2 + 1], real.
        factor: [L//2 + 1], complex.
        taps: how many kernel taps the inverse transform yields.
    """

    numerator: Tensor
    beta: Tensor
    factor: Tensor
    taps: int


def exact_nodes(length: int, dtype: torch.dtype, device: torch.device) -> Nodes:
    """The nodes of a kernel of `length` taps, computed in double precision and rounded once to `dtype`.

    With ``theta = 2 pi l / L``, half angles turn ``z = 2 (1 - omega) / (1 + omega)`` into ``2i sin / cos`` and the
    bilinear factor ``2 / (1 + omega)`` into ``exp(i theta / 2) / cos``; multiplying both sides by the cosine leaves
    nothing that divides by zero.

    Args:
        length: L >= 1, odd or even.
        dtype: torch.float32 or torch.float64, of the real parts.
        device: of the result.
    """
    half = torch.arange(length // 2 + 1, dtype=torch.float64) * (torch.pi / length)
    complex_dtype = torch.complex(torch.empty(0, dtype=dtype), torch.empty(0, dtype=dtype)).dtype
    return Nodes(
        numerator=(2j * torch.sin(half)).to(complex_dtype).to(device),
        beta=torch.cos(half).to(dtype).to(device),
        factor=torch.polar(torch.ones_like(half), half).to(complex_dtype).to(device),
        taps=length,
    )


def ssm_kernel(log_dt: Tensor, w: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor, nodes: Nodes) -> Tensor:
    """The SSM convolution kernel ``K[l] = C^* A_bar^l B_bar`` for l < L, through its generating function.

    ``C`` here is the paper's C~, ``C~^* = C^* (I - A_bar^L)``: the truncated generating function at the L-th roots of
    unity then needs no matrix power. The rank-1 term is undone with the Woodbury identity.

    Args:
        log_dt: [H], natural logarithm of the step.
        w: [N/2], complex, diagonal of A shared by all channels; the conjugates are implied.
        B: [H, N/2], complex.
        C: [H, N/2], complex.
        P: [H, N/2], complex, left low-rank factor.
        Q: [H, N/2], complex, right low-rank factor.
        nodes: where to evaluate.

    Returns:
        [H, nodes.taps], real.

    Reference: S4 paper, algorithm 1 and lemma C.3 (in the conjugate-pair form of its published code).
    """
    dt, poles, residues = resolvent(log_dt, w, B, C, P, Q)
    spans = _spans(len(nodes.factor), max(1, _CAUCHY_CHUNK // (2 * poles.numel())))
    spectrum = torch.cat([_generating_function(dt, poles, residues, nodes, span) for span in spans], dim=-1)
    kernel: Tensor = torch.fft.irfft(spectrum, n=nodes.taps)
    return kernel


def resolvent(log_dt: Tensor, w: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The steps dt [H], the poles dt w [H, N/2] and the residues of the resolvent, [4, H, N/2].

    The residues are the four products of {B, P} with {C, Q}, which share their poles.
    """
    dt = log_dt.exp()
    C, Q = C.conj(), Q.conj()
    return dt, torch.outer(dt, w), torch.stack([B * C, B * Q, P * C, P * Q])


def _pair(half: Tensor) -> Tensor:
    """[..., N/2] to [..., N]: appends the conjugates that are stored by implication."""
    return torch.cat([half, half.conj()], dim=-1)


def _spans(total: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, total)) for i in range(0, total, size)]


def _generating_function(dt: Tensor, poles: Tensor, residues: Tensor, nodes: Nodes, span: slice) -> Tensor:
    """The kernel's spectrum [H, span] at some of the nodes; recomputed in the backward pass to bound memory."""
    numerator, beta, factor = nodes.numerator[span], nodes.beta[span], nodes.factor[span]

    def evaluate(dt: Tensor, poles: Tensor, residues: Tensor) -> Tensor:
        cauchy = (numerator[:, None] - beta[:, None] * _pair(poles)[:, None, :]).reciprocal()
        bc, bq, pc, pq = torch.einsum("khn,hln->khl", _pair(residues), cauchy)
        scale = dt[:, None] * beta
        spectrum: Tensor = factor * dt[:, None] * (bc - scale * bq * pc / (1 + scale * pq))
        return spectrum

    if torch.is_grad_enabled() and any(t.requires_grad for t in (dt, poles, residues)):
        result: Tensor = checkpoint(evaluate, dt, poles, residues, use_reentrant=False)
        return result
    return evaluate(dt, poles, residues)


def good_fft_length(minimum: int) -> int:
    """The smallest even 5-smooth number >= `minimum`: lengths at which FFT libraries keep to their fast path."""
    best = 1 << max(1, (minimum - 1).bit_length())
    five = 1
    while five < best:
        fifteen = five
        while fifteen < best:
            candidate = fifteen * 2
            while candidate < minimum:
                candidate *= 2
            best = min(best, candidate)
            fifteen *= 3
        five *= 5
    return best


def long_conv(u: Tensor, kernel: Tensor, D: Tensor) -> Tensor:
    """Causal convolution with a skip: ``y[t] = sum_s kernel[s] u[t - s] + D u[t]``.

    Args:
        u: [B, H, L], any floating dtype; computed in float32 at least.
        kernel: [H, K], real; taps beyond L are ignored, missing ones count as zero.
        D: [H].

    Returns:
        [B, H, L], in u's dtype.
    """
    length = u.shape[-1]
    kernel = kernel[..., :length]
    signal = u.to(torch.promote_types(u.dtype, torch.float32))
    n = good_fft_length(length + kernel.shape[-1] - 1)
    spectrum = torch.fft.rfft(signal, n=n) * torch.fft.rfft(kernel.to(signal.dtype), n=n)
    y: Tensor = torch.fft.irfft(spectrum, n=n)[..., :length] + D.to(signal.dtype)[:, None] * signal
    return y.to(u.dtype)


class Recurrence(NamedTuple):
    """A discretised state space: ``x[t] = A x[t-1] + B u[t]``, ``y[t] = C x[t]`` over N conjugate-paired states.

    Attributes:
        A: [H, N, N], complex.
        B: [H, N], complex.
        C: [H, N], complex; the true output row ``C^*``, not C~.
    """

    A: Tensor
    B: Tensor
    C: Tensor


def recurrence(log_dt: Tensor, w: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor, length: int) -> Recurrence:
    """The recurrence whose first `length` impulse responses are `ssm_kernel`'s taps.

    ``A_bar = (I - dt/2 A)^-1 (I + dt/2 A)``, ``B_bar = (I - dt/2 A)^-1 dt B``, and C is solved back from
    ``C~^* = C^* (I - A_bar^L)``. The output sums over conjugate pairs, so its imaginary part is zero.

    Args:
        log_dt: [H].
        w: [N/2], complex.
        B: [H, N/2], complex.
        C: [H, N/2], complex, the stored C~.
        P: [H, N/2], complex.
        Q: [H, N/2], complex.
        length: L at which C~ was defined.

    Reference: S4 paper, equation 3 (bilinear) and section C.3.
    """
    dt = log_dt.exp()[:, None, None]
    A = torch.diag(_pair(w)) - _pair(P)[:, :, None] * _pair(Q).conj()[:, None, :]
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    backward = torch.linalg.inv(eye - dt / 2 * A)
    A_bar = backward @ (eye + dt / 2 * A)
    B_bar = dt[:, :, 0] * (backward @ _pair(B)[:, :, None])[:, :, 0]
    remaining = eye - torch.linalg.matrix_power(A_bar, length)
    C_bar = torch.linalg.solve(remaining.transpose(-1, -2), _pair(C).conj()[:, :, None])[:, :, 0]
    return Recurrence(A_bar, B_bar, C_bar)
