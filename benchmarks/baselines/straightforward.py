"""The multi-scale S4 decoder written as its formulas read, without optimisation.

Every pass generates the SSM convolution kernel again, with one complex division for each of four products, channel,
node and pair of states. The convolution is an FFT of length 2L, whatever the factors of L. The linear layer of S4 runs
before the pooling that drops half of its rows. Only the Cauchy products are summed a few channels at a time and
recomputed in the backward pass: held at once, they would need about 30 GB at the paper's size.

Parameters have the names of those of `vis4mer.models.decoder.S4Decoder`, so a state dict of one fits the other.

Reference: Gu, Goel & Ré (ICLR 2022), algorithm 1; Islam & Bertasius, ViS4mer (ECCV 2022), section 3.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.baselines.multiscale import MultiscaleBlock, MultiscaleDecoder
from vis4mer.config import DecoderConfig

# Channels whose Cauchy products are held at once: 4 x 2 x 32 x 5911 quotients take 12 MB at L = 11820. More channels
# are slower.
_CHANNELS = 2


class StraightforwardDecoder(MultiscaleDecoder):
    """Classifies features [B, L, d_input] as logits [B, d_output], like S4Decoder with exact nodes.

    Args:
        config: Sizes of the decoder.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config, lambda width, length: _Block(width, config.d_state, length, config.dropout))


class _Block(MultiscaleBlock):
    def __init__(self, width: int, d_state: int, length: int, dropout: float) -> None:
        super().__init__(width, dropout)
        self.s4 = _S4(width, d_state, length, dropout)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.s4(x)
        return mixed


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
        self.B, self.C, self.P, self.Q = (nn.Parameter(torch.zeros(channels, d_state // 2, 2)) for _ in range(4))
        self.D = nn.Parameter(torch.zeros(channels))

    def kernel(self) -> Tensor:
        """Generates the SSM convolution kernel [D, L]."""
        turns = torch.arange(self.length // 2 + 1, dtype=torch.float64, device=self.D.device) / self.length
        omega = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        z, factor = (2 * (1 - omega) / (1 + omega)).to(torch.complex64), (2 / (1 + omega)).to(torch.complex64)
        w, B, C, P, Q = (torch.view_as_complex(pairs) for pairs in (self.w, self.B, self.C, self.P, self.Q))
        dt = self.log_dt.exp()[:, None]
        residues = torch.stack([B * C.conj(), B * Q.conj(), P * C.conj(), P * Q.conj()]) * dt
        bc, bq, pc, pq = cauchy(residues, z, w * dt)
        kernel: Tensor = torch.fft.irfft(factor * (bc - bq * pc / (1 + pq)), n=self.length)
        return kernel

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[-1]
        with torch.autocast(u.device.type, enabled=False):
            signal = u.float()
            spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(self.kernel()[:, :length], n=2 * length)
            y: Tensor = torch.fft.irfft(spectrum, n=2 * length)[..., :length] + self.D[:, None] * signal
            return y


def cauchy(residues: Tensor, z: Tensor, poles: Tensor) -> Tensor:
    """Sums ``v / (z - p) + conj(v) / (z - conj(p))`` over the states, with one complex division for each pair.

    Args:
        residues: Residues v [4, D, N/2], complex.
        z: Nodes [nodes], complex.
        poles: Poles p [D, N/2], complex.

    Returns:
        Sums [4, D, nodes], complex.
    """

    def divide(residues: Tensor, poles: Tensor) -> Tensor:
        v, p = residues[..., None], poles[..., None]
        return (2 * (z * v.real - (v * p.conj()).real) / ((z - p) * (z - p.conj()))).sum(dim=-2)

    parts = zip(torch.split(residues, _CHANNELS, dim=1), torch.split(poles, _CHANNELS), strict=True)
    return torch.cat([checkpoint(divide, *part, use_reentrant=False) for part in parts], dim=1)
