"""The multi-scale S4 decoder as its formulas read, nothing arranged for speed.

The SSM convolution kernel is generated anew in every pass, from one complex division for each of four products,
channel, node and pair of states; the convolution is an FFT of length 2L, whatever the factors of L; the linear layer of
S4 runs before the pooling that drops half of its rows. Only the Cauchy products are summed a few channels at a time and
recomputed in the backward pass: kept whole they would need some 30 GB at the paper's size.

Parameters bear the names of `vis4mer.models.decoder.S4Decoder`'s, so that one's state dict fits the other.

Reference: Gu, Goel & Ré (ICLR 2022), algorithm 1; Islam & Bertasius, ViS4mer (ECCV 2022), section 3.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vis4mer.config import DecoderConfig

# Channels whose Cauchy products are held at once: 4 x 2 x 32 x 5911 quotients are 12 MB at L = 11820. More are slower.
_CHANNELS = 2


class StraightforwardDecoder(nn.Module):
    """Features [B, L, d_input] to logits [B, d_output], equal to S4Decoder with exact nodes."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        project = config.d_input != config.d_model
        self.input = nn.Linear(config.d_input, config.d_model) if project else nn.Identity()
        sizes = [(config.d_model >> i, config.l_max >> i) for i in range(config.n_layers)]
        self.blocks = nn.ModuleList(_Block(width, config.d_state, length, config.dropout) for width, length in sizes)
        self.output = nn.Linear(config.d_model >> config.n_layers, config.d_output)

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, d_input]."""
        x = self.input(features)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.output(x.mean(dim=1))
        return logits


class _Block(nn.Module):
    def __init__(self, channels: int, d_state: int, length: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.s4 = _S4(channels, d_state, length, dropout)
        self.dropout = nn.Dropout1d(dropout)
        self.pool = nn.AvgPool1d(2)
        self.reduce = nn.Linear(channels, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.s4(self.norm(x)).transpose(1, 2))
        x = self.pool(x.transpose(1, 2) + y).transpose(1, 2)
        return nn.functional.gelu(self.reduce(x))


class _S4(nn.Module):
    def __init__(self, channels: int, d_state: int, length: int, dropout: float) -> None:
        super().__init__()
        self.conv = _SSMConv(channels, d_state, length)
        self.dropout = nn.Dropout1d(dropout)
        self.output = nn.Linear(channels, channels)

    def forward(self, u: Tensor) -> Tensor:
        y = self.dropout(nn.functional.gelu(self.conv(u.transpose(1, 2))))
        mixed: Tensor = self.output(y.transpose(1, 2))
        return mixed


class _SSMConv(nn.Module):
    def __init__(self, channels: int, d_state: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.log_dt = nn.Parameter(torch.zeros(channels))
        self.w = nn.Parameter(torch.zeros(d_state // 2, 2))
        for name in ("B", "C", "P", "Q"):
            setattr(self, name, nn.Parameter(torch.zeros(channels, d_state // 2, 2)))
        self.D = nn.Parameter(torch.zeros(channels))

    def kernel(self) -> Tensor:
        """The SSM convolution kernel [H, L]."""
        turns = torch.arange(self.length // 2 + 1, dtype=torch.float64, device=self.D.device) / self.length
        omega = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        z, factor = (2 * (1 - omega) / (1 + omega)).to(torch.complex64), (2 / (1 + omega)).to(torch.complex64)
        w, B, C, P, Q = (torch.view_as_complex(pairs) for pairs in (self.w, self.B, self.C, self.P, self.Q))
        dt = self.log_dt.exp()[:, None]
        residues = torch.stack([B * C.conj(), B * Q.conj(), P * C.conj(), P * Q.conj()]) * dt
        bc, bq, pc, pq = cauchy(residues, z, w * dt)
        return torch.fft.irfft(factor * (bc - bq * pc / (1 + pq)), n=self.length)

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[-1]
        with torch.autocast(u.device.type, enabled=False):
            signal = u.float()
            spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(self.kernel()[:, :length], n=2 * length)
            return torch.fft.irfft(spectrum, n=2 * length)[..., :length] + self.D[:, None] * signal


def cauchy(residues: Tensor, z: Tensor, poles: Tensor) -> Tensor:
    """Sums ``v / (z - p) + conj(v) / (z - conj(p))`` over the states, a conjugate pair by one complex division.

    Args:
        residues: v, [4, H, N/2], complex.
        z: [nodes], complex.
        poles: p, [H, N/2], complex.

    Returns:
        [4, H, nodes], complex.
    """

    def divide(residues: Tensor, poles: Tensor) -> Tensor:
        v, p = residues[..., None], poles[..., None]
        return (2 * (z * v.real - (v * p.conj()).real) / ((z - p) * (z - p.conj()))).sum(dim=-2)

    parts = zip(residues.split(_CHANNELS, dim=1), poles.split(_CHANNELS), strict=True)
    return torch.cat([checkpoint(divide, *part, use_reentrant=False) for part in parts], dim=1)
