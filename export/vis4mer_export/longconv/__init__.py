"""Lowerings of the long convolution with a fixed kernel, one file each."""

from typing import Literal

Lowering = Literal["fft", "blocked_toeplitz", "matmul_dft"]
RequestedLowering = Lowering | Literal["auto"]
