"""The mathematics of S4, written once and readably; every faster path is tested against these functions.

Symbols follow the S4 papers: H channels, N states per channel (N/2 conjugate pairs are stored), L taps, and
M = L // 2 + 1 frequencies of a real signal of length L. The continuous-time system is

    x'(t) = A x(t) + B u(t),    y(t) = C^* x(t),    A = diag(w) - P Q^*,

and the bilinear rule with step dt discretises it to ``x[t] = A_bar x[t-1] + B_bar u[t]``.

Reference: Gu, Goel & Ré, Efficiently Modeling Long Sequences with Structured State Spaces (ICLR 2022), section 3 and
appendix C.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements of the [H, M, N] Cauchy matrix held at once: 64 MiB of complex64.
_CAUCHY_CHUNK = 1 << 23


class StateSpace(NamedTuple):
    """The trained parameters of H single-input, single-output state spaces of N conjugate-paired states.

    The conjugate of every stored state is implied, so N/2 values stand for N.

    Attributes:
        log_dt: [H], real; natural logarithm of the step.
        w: [N/2], complex; diagonal of A, shared by all channels.
        B: [H, N/2], complex; input column.
        C: [H, N/2], complex; the paper's C~, ``C~^* = C^* (I - A_bar^L)``, for kernels of L taps.
        P: [H, N/2], complex; left factor of A's low-rank term.
        Q: [H, N/2], complex; right factor of A's low-rank term.
    """

    log_dt: Tensor
    w: Tensor
    B: Tensor
    C: Tensor
    P: Tensor
    Q: Tensor

    def double(self) -> "StateSpace":
        """Returns the same state spaces in float64 and complex128."""
        return StateSpace(*(x.to(torch.complex128 if x.is_complex() else torch.float64) for x in self))


class FrequencyGrid(NamedTuple):
    """The M frequencies at which the generating function of an SSM convolution kernel is evaluated.

    At the root of unity ``omega = exp(-i theta)`` the generating function is ``factor / beta * R(numerator / beta)``,
    with the resolvent R of `ssm_kernel`. At omega = -1, beta is zero and ``z = numerator / beta`` infinite; multiplied
    out by beta, the expression is an ordinary number there too.

    Attributes:
        numerator: [M], complex.
        beta: [M], real.
        factor: [M], complex.
        taps: Number of kernel taps that the inverse transform of M values returns.
    """

    numerator: Tensor
    beta: Tensor
    factor: Tensor
    taps: int


def exact_grid(length: int, dtype: torch.dtype, device: torch.device) -> FrequencyGrid:
    """Returns the grid of a kernel of `length` taps, computed in double precision and rounded once to `dtype`.

    With ``theta = 2 pi l / L``, half angles turn the bilinear rule's ``z = 2 (1 - omega) / (1 + omega)`` into
    ``2i sin(theta/2) / cos(theta/2)`` and its factor ``2 / (1 + omega)`` into ``exp(i theta/2) / cos(theta/2)``.
    Beta is the cosine: multiplied out, nothing divides by zero.

    Args:
        length: L >= 1, odd or even.
        dtype: Type of the real parts, torch.float32 or torch.float64.
        device: Device of the result.
    """
    half = torch.arange(length // 2 + 1, dtype=torch.float64) * (torch.pi / length)  # theta / 2
    complex_dtype = torch.complex(torch.empty(0, dtype=dtype), torch.empty(0, dtype=dtype)).dtype
    return FrequencyGrid(
        numerator=(2j * torch.sin(half)).to(complex_dtype).to(device),
        beta=torch.cos(half).to(dtype).to(device),
        factor=torch.polar(torch.ones_like(half), half).to(complex_dtype).to(device),
        taps=length,
    )


def ssm_kernel(space: StateSpace, grid: FrequencyGrid) -> Tensor:
    """Computes the SSM convolution kernel ``K[l] = C^* A_bar^l B_bar`` for l < L through its generating function.

    At the L-th roots of unity the truncated generating function ``sum_l K[l] omega^l`` is the kernel's discrete Fourier
    transform. Its geometric series sums to ``C^* (I - A_bar^L) (I - omega A_bar)^-1 B_bar``, because omega^L = 1; with
    C~ in place of C, no matrix power is left. The inverse is that of a diagonal plus a rank-1 term, which the Woodbury
    identity reduces to four sums over the poles:

        R(z) = dt (S_BC - dt S_BQ S_PC / (1 + dt S_PQ)),    S_XY(z) = sum_n X_n conj(Y_n) / (z - dt w_n).

    Args:
        space: State spaces; their C is C~ for the grid's L.
        grid: Frequencies, in the precision of the parameters.

    Returns:
        kernel [H, grid.taps], real.

    Reference: S4 paper, algorithm 1 and lemma C.3, in the conjugate-pair form of its published code.
    """
    fractions = resolvent(space)
    chunk = max(1, _CAUCHY_CHUNK // (2 * fractions.poles.numel()))
    spectrum = torch.cat([_spectrum(fractions, part) for part in _split(grid, chunk)], dim=-1)
    kernel: Tensor = torch.fft.irfft(spectrum, n=grid.taps)
    return kernel


class Resolvent(NamedTuple):
    """The partial fractions of a state space's resolvent, with time in steps.

    Attributes:
        dt: [H], real; step.
        poles: [H, N/2], complex; dt w.
        residues: [4, H, N/2], complex; the products B C^*, B Q^*, P C^* and P Q^*, which share the poles.
    """

    dt: Tensor
    poles: Tensor
    residues: Tensor


def resolvent(space: StateSpace) -> Resolvent:
    """Returns the poles and residues of the resolvent of every channel."""
    _, w, B, C, P, Q = space
    dt = space.log_dt.exp()
    C, Q = C.conj(), Q.conj()
    return Resolvent(dt, torch.outer(dt, w), torch.stack([B * C, B * Q, P * C, P * Q]))


def _pair(half: Tensor) -> Tensor:
    """[..., N/2] to [..., N]: appends the implied conjugates."""
    return torch.cat([half, half.conj()], dim=-1)


def _split(grid: FrequencyGrid, size: int) -> list[FrequencyGrid]:
    """Splits a grid into grids of at most `size` frequencies."""
    tensors = (grid.numerator, grid.beta, grid.factor)
    parts = zip(*(torch.split(values, size) for values in tensors), strict=True)
    return [FrequencyGrid(numerator, beta, factor, grid.taps) for numerator, beta, factor in parts]


def _spectrum(fractions: Resolvent, grid: FrequencyGrid) -> Tensor:
    """Computes the kernel's spectrum [H, M] on a grid."""

    def evaluate(dt: Tensor, poles: Tensor, residues: Tensor) -> Tensor:
        distances = grid.numerator[:, None] - grid.beta[:, None] * _pair(poles)[:, None, :]  # [H, M, N]
        bc, bq, pc, pq = torch.einsum("khn,hmn->khm", _pair(residues), distances.reciprocal())
        scale = dt[:, None] * grid.beta
        spectrum: Tensor = grid.factor * dt[:, None] * (bc - scale * bq * pc / (1 + scale * pq))
        return spectrum

    # The Cauchy matrix is N times as large as the spectrum, so the backward pass computes it again, chunk by chunk,
    # instead of keeping it.
    if torch.is_grad_enabled() and any(values.requires_grad for values in fractions):
        result: Tensor = checkpoint(evaluate, *fractions, use_reentrant=False)
        return result
    return evaluate(*fractions)


def good_fft_length(minimum: int) -> int:
    """Returns the smallest even 5-smooth number >= `minimum`: FFT libraries are fast at such lengths."""
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
    """Computes a causal convolution with a skip: ``y[t] = sum_s kernel[s] u[t - s] + D u[t]``.

    Args:
        u: Signal [B, H, L], of any floating dtype; computed in float32 at least.
        kernel: Taps [H, K], real; those beyond L are ignored, missing ones count as zero.
        D: Skip weights [H], real.

    Returns:
        y [B, H, L], in u's dtype.
    """
    length = u.shape[-1]
    kernel = kernel[..., :length]
    signal = u.to(torch.promote_types(u.dtype, torch.float32))
    # A transform at least as long as the full linear convolution: its end must not wrap around onto the start.
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


def recurrence(space: StateSpace, length: int) -> Recurrence:
    """Returns the recurrence whose first `length` impulse responses are `ssm_kernel`'s taps.

    ``A_bar = (I - dt/2 A)^-1 (I + dt/2 A)`` and ``B_bar = (I - dt/2 A)^-1 dt B``; C is recovered from
    ``C~^* = C^* (I - A_bar^L)``. The output sums over conjugate pairs, so its imaginary part is zero.

    Args:
        space: State spaces, best in double precision.
        length: L for which C~ is defined.

    Reference: S4 paper, equation 3 (bilinear rule) and section C.3.
    """
    _, w, B, C, P, Q = space
    dt = space.log_dt.exp()[:, None, None]
    low_rank = _pair(P)[:, :, None] * _pair(Q).conj()[:, None, :]
    A = torch.diag(_pair(w)) - low_rank
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    backward = torch.linalg.inv(eye - dt / 2 * A)
    A_bar = backward @ (eye + dt / 2 * A)
    B_bar = dt[:, :, 0] * _apply(backward, _pair(B))
    # C^* is a row: x (I - A_bar^L) = C~^* is solved as the transposed system.
    remaining = eye - torch.linalg.matrix_power(A_bar, length)
    C_row = torch.linalg.solve(remaining.mT, _pair(C).conj()[:, :, None])[:, :, 0]
    return Recurrence(A_bar, B_bar, C_row)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Multiplies matrices [H, N, N] with vectors [H, N]."""
    return (matrices @ vectors[:, :, None])[:, :, 0]
