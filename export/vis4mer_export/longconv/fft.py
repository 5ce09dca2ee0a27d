"""A long convolution with any fixed kernel through the runtime's own FFT, the spectrum precomputed."""

import torch
from torch import Tensor, nn

from vis4mer_kernels.reference import good_fft_length


class FFTConv(nn.Module):
    """Causal convolution of [B, H, L] with a fixed kernel, for one L.

    The spectrum is kept as real pairs, so that no constant of the graph is complex; the transform's length is the next
    even 5-smooth one, where FFT libraries are fastest.

    Args:
        kernel: [H, K], real; a skip connection D is the kernel with D added to its first tap.
        length: L, of the sequences.
    """

    PRODUCTS = ()  # transforms and spectrum stay in float32

    spectrum: Tensor  # [H, n // 2 + 1, 2]

    def __init__(self, kernel: Tensor, length: int) -> None:
        super().__init__()
        taps = min(kernel.shape[-1], length)
        self.length = length
        self.n = good_fft_length(length + taps - 1)
        spectrum = torch.fft.rfft(kernel[:, :taps].double(), n=self.n)
        self.register_buffer("spectrum", torch.view_as_real(spectrum).to(torch.float32))

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], float32; L is the exported length."""
        product = torch.fft.rfft(u, n=self.n) * torch.view_as_complex(self.spectrum)
        y: Tensor = torch.fft.irfft(product, n=self.n)
        return y[..., : self.length]
