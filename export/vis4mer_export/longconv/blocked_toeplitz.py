"""A state space's long convolution as dense matrix products: Toeplitz blocks joined by a scan over block states.

Per channel the layer computes ``x[t] = A x[t-1] + B u[t]`` and ``y[t] = C x[t] + D u[t]``. Cut the sequence into blocks
of T steps, let u_c and y_c be those of block c, and s_c the state just before it. Unrolling the recurrence within the
block yields::

    y_c     = K u_c + R s_c       K[i, j] = C A^(i-j) B + D [i = j]  for i >= j, else 0
    s_(c+1) = A^T s_c + G u_c     R[i]    = C A^(i+1),   G[:, j] = A^(T-1-j) B

K is a lower-triangular Toeplitz matrix, and the stack of K and G is one product with all blocks of all samples as its
columns. What remains is the recurrence of the states. It is associative, so a scan resolves it in log2(blocks) rounds:
if s_c holds what the last 2^i blocks contribute, then ``s_c + A^(T 2^i) s_(c - 2^i)`` holds that of the last 2^(i+1).

This is exact for a state space only: no such state exists for an arbitrary kernel.

Reference: Hillis & Steele, Data Parallel Algorithms (1986), for the scan; the chunked form of linear state spaces is
that of Mamba-2 (Dao & Gu, ICML 2024), section 6, here with a dense A.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from vis4mer.models.s4 import SSMConv
from vis4mer_export.longconv.product import product

# Steps in a block, T. A step costs T multiplications for K, 2 N for G and R, and N^2 log2(L / T) / T for the scan: the
# first grows with T, the last falls. 128 was fastest on CPUs from L = 1k to 12k.
BLOCK = 128


class BlockedToeplitzConv(nn.Module):
    """Causal convolution of [B, H, L] with an `SSMConv`'s kernel and skip, for one L.

    Args:
        conv: Layer with exact nodes; it is not modified.
        length: L, length of the sequences.
        block: T, steps in a block.
    """

    # Constants that may be stored in half precision. The scan stays in float32, since it multiplies states by high
    # powers of A, whose rounding errors would add up over the whole sequence.
    PRODUCTS = ("within", "readout")

    within: Tensor  # [H, T + N, T]: K above G, a block's own outputs and the state that it leaves
    readout: Tensor  # [H, T, N]: R, a block's outputs from the state before it

    def __init__(self, conv: SSMConv, length: int, block: int = BLOCK) -> None:
        super().__init__()
        self.length, self.block = length, min(block, length)
        self.blocks = math.ceil(length / self.block)
        A, B, C = _real_recurrence(conv)
        injections, readouts = [B], [(C[:, None] @ A)[:, 0]]  # A^j B and C A^(i+1), by recursion
        for _ in range(self.block - 1):
            injections.append((A @ injections[-1][..., None])[..., 0])
            readouts.append((readouts[-1][:, None] @ A)[:, 0])
        impulse = torch.einsum("hn,thn->ht", C, torch.stack(injections))
        impulse[:, 0] += conv.D.detach().double()
        lag = torch.arange(self.block)[:, None] - torch.arange(self.block)
        toeplitz = torch.where(lag >= 0, impulse[:, lag.clamp(min=0)], 0.0)
        leaving = torch.stack(injections[::-1], dim=-1)
        self.register_buffer("within", torch.cat([toeplitz, leaving], dim=1).to(torch.float32))
        self.register_buffer("readout", torch.stack(readouts, dim=1).to(torch.float32))
        # The last block has blocks - 1 predecessors, and 2^rounds must reach all of them.
        self.rounds = max(0, self.blocks - 2).bit_length()
        step = torch.linalg.matrix_power(A, self.block)
        for i in range(self.rounds):
            self.register_buffer(f"step_{i}", step.to(torch.float32))  # A^(T 2^i): [H, N, N]
            step = step @ step

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], float32; L is the exported length."""
        x = nn.functional.pad(u, (0, self.blocks * self.block - self.length))
        x = rearrange(x, "b h (c t) -> b h t c", t=self.block)  # column c is block c
        own, left = product(self.within, x).split_with_sizes([self.block, self.readout.shape[-1]], dim=2)
        # Column c becomes the state before block c; so far it holds what block c - 1 alone contributes.
        state = nn.functional.pad(left[..., :-1], (1, 0))
        for i in range(self.rounds):
            earlier = torch.matmul(self.get_buffer(f"step_{i}"), state[..., : -(1 << i)])
            state = state + nn.functional.pad(earlier, (1 << i, 0))
        y = own + product(self.readout, state)
        return rearrange(y, "b h t c -> b h (c t)")[..., : self.length]


def _real_recurrence(conv: SSMConv) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the layer's A [H, N, N], B [H, N] and C [H, N] over real states, in float64.

    The layer's states come in conjugate pairs (z, z*). Over their real and imaginary parts, which a fixed change of
    basis yields, the same recurrence is real, so no product of the graph is complex.
    """
    with torch.no_grad():
        A, B, C = conv.recurrence()
    half = B.shape[-1] // 2
    eye = torch.eye(half, dtype=A.dtype)
    pairs = torch.cat([torch.cat([eye, 1j * eye], dim=1), torch.cat([eye, -1j * eye], dim=1)])  # (Re, Im) to (z, z*)
    parts = pairs.mH / 2  # the inverse of `pairs`
    return (parts @ A @ pairs).real, (parts @ B[..., None])[..., 0].real, (C[:, None] @ pairs)[:, 0].real
