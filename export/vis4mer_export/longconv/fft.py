"""A long convolution with any fixed kernel through the runtime's own FFT, with a precomputed spectrum."""

import torch
from torch import Tensor, nn

from vis4mer_kernels.reference import good_fft_length


class FFTConv(nn.Module):
    """Causal convolution of [B, H, L] with a fixed kernel, for one L.

    By the convolution theorem, ``y = irfft(rfft(u) * rfft(k))`` if the transform has at least ``L + taps - 1`` points,
    so that the circular convolution does not wrap around. Its length is the next even 5-smooth number, for which FFT
    libraries are fastest. The spectrum is stored as real pairs, since some formats have no complex constants.

    Args:
        kernel: [H, taps], real. A skip connection D is part of the kernel: it adds D to the first tap.
        length: L, length of the sequences.
    """

    PRODUCTS = ()  # there are no matrix products; transforms and spectrum stay in float32

    spectrum: Tensor  # [H, n // 2 + 1, 2]

    def __init__(self, kernel: Tensor, length: int) -> None:
        super().__init__()
        taps = min(kernel.shape[-1], length)  # further taps reach no output
        self.length = length
        self.n = good_fft_length(length + taps - 1)
        spectrum = torch.fft.rfft(kernel[:, :taps].double(), n=self.n)
        self.register_buffer("spectrum", torch.view_as_real(spectrum).to(torch.float32))

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], float32; L is the exported length."""
        product = torch.fft.rfft(u, n=self.n) * torch.view_as_complex(self.spectrum)
        y: Tensor = torch.fft.irfft(product, n=self.n)
        return y[..., : self.length]
