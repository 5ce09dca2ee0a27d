"""A long convolution with any fixed kernel, as matrix products: no DFT operator, no complex numbers.

Runtimes disagree about DFT: ONNX Runtime's is slow, TensorRT parses none. A transform of length ``n = n1 n2`` is two
rounds of small dense transforms with a twiddle factor between them, and dense transforms are what every runtime is
best at. The transform's output is left in the order in which it falls out; the kernel's spectrum is stored in the same
order, and the inverse takes it from there.

Reference: Bailey, FFTs in external or hierarchical memory (1990): the four-step method, here without its transposition.
"""

import math

import torch
from torch import Tensor, nn

from vis4mer_export.longconv.product import product


class MatmulDFTConv(nn.Module):
    """Causal convolution of [B, H, L] with a fixed kernel, for one L.

    With ``j = n2 j1 + j2`` and ``k = k1 + n1 k2``, the transform of a sequence laid out as an n1 x n2 matrix is a DFT
    down the columns, the factor ``omega^(j2 k1)``, and a DFT along the rows. Sequences are real, so only the
    ``n1 // 2 + 1`` first rows of the transformed matrix are kept; zero padding is never multiplied.

    Args:
        kernel: [H, K], real; a skip connection D is the kernel with D added to its first tap.
        length: L, of the sequences.
    """

    PRODUCTS = ("down", "along", "back_along", "up")  # constants that may be stored in half precision

    down: Tensor  # [2 kept, rows]
    along: Tensor  # [2 n2, 2 n2]
    back_along: Tensor  # [2 n2, 2 n2]
    up: Tensor  # [rows, 2 kept]
    twiddle_real: Tensor  # [kept, n2]
    twiddle_imag: Tensor
    spectrum_real: Tensor  # [H, kept, n2]
    spectrum_imag: Tensor

    def __init__(self, kernel: Tensor, length: int) -> None:
        super().__init__()
        taps = min(kernel.shape[-1], length)
        self.length = length
        n1, n2 = split_length(length, taps)
        n, rows, kept = n1 * n2, math.ceil(length / n2), n1 // 2 + 1
        self.rows, self.columns = rows, n2

        down = _dft(kept, rows, n1)
        along = _dft(n2, n2, n2)
        twiddle = _dft(kept, n2, n)
        padded = torch.zeros(kernel.shape[0], n1 * n2, dtype=torch.float64)
        padded[:, :taps] = kernel[:, :taps].double()
        spectrum = ((_dft(kept, n1, n1) @ padded.view(-1, n1, n2).to(torch.complex128)) * twiddle) @ along
        # Rows k1 and n1 - k1 are conjugate: the kept ones stand for both, except those that are their own conjugates.
        weight = torch.full((kept, 1), 2.0 / n, dtype=torch.float64)
        weight[0] = 1.0 / n
        if n1 % 2 == 0:
            weight[-1] = 1.0 / n

        # Each product keeps the norm of what it is given, so that half precision neither overflows nor underflows.
        self._constant("down", torch.cat([down.real, down.imag]) / math.sqrt(n1))
        self._constant("along", _real_form(along) / math.sqrt(n2))
        self._constant("back_along", _real_form(along.conj()) / math.sqrt(n2))
        up = (down.conj() * weight).transpose(0, 1) * (n2 * math.sqrt(n1))
        self._constant("up", torch.cat([up.real, -up.imag], dim=1))
        self._constant("twiddle_real", twiddle.real)
        self._constant("twiddle_imag", twiddle.imag)
        self._constant("spectrum_real", spectrum.real)
        self._constant("spectrum_imag", spectrum.imag)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.to(torch.float32).contiguous())

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], float32; L is the exported length."""
        x = nn.functional.pad(u, (0, self.rows * self.columns - self.length))
        x = x.reshape(-1, u.shape[1], self.rows, self.columns)
        real, imag = product(self.down, x).chunk(2, dim=-2)
        real, imag = _multiply(real, imag, self.twiddle_real, self.twiddle_imag)
        real, imag = product(torch.cat([real, imag], dim=-1), self.along).chunk(2, dim=-1)
        real, imag = _multiply(real, imag, self.spectrum_real, self.spectrum_imag)
        real, imag = product(torch.cat([real, imag], dim=-1), self.back_along).chunk(2, dim=-1)
        real, imag = _multiply(real, imag, self.twiddle_real, -self.twiddle_imag)
        y = product(self.up, torch.cat([real, imag], dim=-2))
        return y.flatten(-2)[..., : self.length]


def split_length(length: int, taps: int) -> tuple[int, int]:
    """The factors (n1, n2) of a transform long enough for a linear convolution that cost the fewest multiplications."""
    least = length + taps - 1
    best, best_cost = (1, least), math.inf
    for n2 in range(1, least + 1):
        n1 = math.ceil(least / n2)
        kept, rows = n1 // 2 + 1, math.ceil(length / n2)
        cost = 2 * (2 * kept * rows * n2) + 2 * (kept * (2 * n2) ** 2)
        if cost < best_cost:
            best, best_cost = (n1, n2), cost
    return best


def _dft(outputs: int, inputs: int, n: int) -> Tensor:
    """``exp(-2 pi i j k / n)`` for k < outputs, j < inputs: [outputs, inputs], complex128, exact arguments."""
    exponent = torch.outer(torch.arange(outputs), torch.arange(inputs)) % n
    angle = exponent.double() * (-2 * torch.pi / n)
    return torch.polar(torch.ones_like(angle), angle)


def _real_form(matrix: Tensor) -> Tensor:
    """The real [2n, 2n] matrix that multiplies rows laid out as [real | imaginary] by a complex one from the right."""
    top = torch.cat([matrix.real, matrix.imag], dim=1)
    bottom = torch.cat([-matrix.imag, matrix.real], dim=1)
    return torch.cat([top, bottom])


def _multiply(real: Tensor, imag: Tensor, other_real: Tensor, other_imag: Tensor) -> tuple[Tensor, Tensor]:
    return real * other_real - imag * other_imag, real * other_imag + imag * other_real
