"""A state space's long convolution as dense matrix products: Toeplitz blocks joined by a scan over block states.

Within a block of T steps the convolution is a T x T lower-triangular Toeplitz matrix per channel. What earlier blocks
contribute passes through the N-dimensional state at the block's start, and the states follow from each other by
``A_bar^T``, an associative recurrence that log2(blocks) rounds of products resolve. Batch and blocks are the columns
of every product. Exact for a state space only: a kernel that is not one has no such state.

Reference: Hillis & Steele, Data Parallel Algorithms (1986), for the scan; the chunked form of linear state spaces is
that of Mamba-2 (Dao & Gu, ICML 2024), section 6, here with a dense A.
"""

import math

import torch
from torch import Tensor, nn

from vis4mer.models.s4 import SSMConv
from vis4mer_export.longconv.product import product

# Steps in a block: Toeplitz work grows with it, the scan's work falls; 128 was fastest on CPUs from L = 1k to 12k.
BLOCK = 128


class BlockedToeplitzConv(nn.Module):
    """Causal convolution of [B, H, L] with an `SSMConv`'s kernel and skip, for one L.

    Args:
        conv: with exact nodes; left as it is.
        length: L, of the sequences.
        block: T.
    """

    PRODUCTS = ("within", "readout")  # constants that may be stored in half precision; the scan stays float32

    within: Tensor  # [H, T + N, T]: a block's own outputs, and the state it leaves
    readout: Tensor  # [H, T, N]: a block's outputs from the state at its start

    def __init__(self, conv: SSMConv, length: int, block: int = BLOCK) -> None:
        super().__init__()
        self.length, self.block = length, min(block, length)
        self.blocks = math.ceil(length / self.block)
        A, B, C = _real_recurrence(conv)
        self.channels = len(B)
        injections, readouts = [B], [(C[:, None] @ A)[:, 0]]
        for _ in range(self.block - 1):
            injections.append((A @ injections[-1][..., None])[..., 0])
            readouts.append((readouts[-1][:, None] @ A)[:, 0])
        impulse = torch.einsum("hn,thn->ht", C, torch.stack(injections))
        impulse[:, 0] += conv.D.detach().double()
        lag = torch.arange(self.block)[:, None] - torch.arange(self.block)
        toeplitz = torch.where(lag >= 0, impulse[:, lag.clamp(min=0)], 0.0)
        within = torch.cat([toeplitz, torch.stack(injections[::-1], dim=-1)], dim=1)
        self.register_buffer("within", within.to(torch.float32))
        self.register_buffer("readout", torch.stack(readouts, dim=1).to(torch.float32))
        self.rounds = max(0, self.blocks - 2).bit_length()
        step = torch.linalg.matrix_power(A, self.block)
        for i in range(self.rounds):
            self.register_buffer(f"step_{i}", step.to(torch.float32))  # A_bar^(T 2^i): [H, N, N]
            step = step @ step

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], float32; L is the exported length."""
        x = nn.functional.pad(u, (0, self.blocks * self.block - self.length))
        x = x.reshape(-1, self.channels, self.blocks, self.block).transpose(2, 3)
        own, left = product(self.within, x).split_with_sizes([self.block, self.readout.shape[-1]], dim=2)
        # Column c: the state at the start of block c, so far from block c - 1 alone.
        state = nn.functional.pad(left[..., :-1], (1, 0))
        for i in range(self.rounds):
            earlier = torch.matmul(self.get_buffer(f"step_{i}"), state[..., : -(1 << i)])
            state = state + nn.functional.pad(earlier, (1 << i, 0))
        y = own + product(self.readout, state)
        return y.transpose(2, 3).reshape(-1, self.channels, self.blocks * self.block)[..., : self.length]


def _real_recurrence(conv: SSMConv) -> tuple[Tensor, Tensor, Tensor]:
    """The layer's recurrence over real and imaginary parts instead of conjugate pairs: all float64."""
    with torch.no_grad():
        A, B, C = conv.recurrence()
    half = B.shape[-1] // 2
    eye = torch.eye(half, dtype=A.dtype)
    pairs = torch.cat([torch.cat([eye, 1j * eye], dim=1), torch.cat([eye, -1j * eye], dim=1)])
    parts = pairs.mH / 2  # the inverse of `pairs`
    return (parts @ A @ pairs).real, (parts @ B[..., None])[..., 0].real, (C[:, None] @ pairs)[:, 0].real
