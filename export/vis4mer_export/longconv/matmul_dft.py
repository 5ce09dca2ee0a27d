"""A long convolution with any fixed kernel, as matrix products: no DFT operator, no complex numbers.

DFT operators differ between runtimes: ONNX Runtime's is slow, and TensorRT has none. A transform of length
``n = n1 n2`` consists of two rounds of small dense transforms with a twiddle factor between them, and dense products
are what every runtime does best. With ``w_n = exp(-2 pi i / n)``, ``j = n2 j1 + j2`` and ``k = k1 + n1 k2``::

    X[k] = sum_j x[j] w_n^(j k)
         = sum_j2 w_n2^(j2 k2)  w_n^(j2 k1)  sum_j1 w_n1^(j1 k1) x[n2 j1 + j2]
           --- along rows ---  - twiddle -  -------- down columns ----------

since ``w_n^(n2 j1 n1 k2) = 1``. The sequence, laid out row by row as an n1 x n2 matrix, is thus transformed down its
columns, scaled, and transformed along its rows. Entry (k1, k2) of the result is X[k1 + n1 k2], the transposed order.
Nothing puts it in order: the kernel's spectrum is stored in the same order, and the inverse, which is the same steps
backwards with conjugate factors, starts from it.

Sequences are real, which halves the work: after the first step row n1 - k1 is the conjugate of row k1, so only the rows
up to ``n1 // 2`` are computed, and the last step of the inverse counts each of them twice and drops imaginary parts.

Reference: Bailey, FFTs in external or hierarchical memory (1990): the four-step method, here without its transposition.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from vis4mer_export.longconv.product import product


class MatmulDFTConv(nn.Module):
    """Causal convolution of [B, H, L] with a fixed kernel, for one L.

    The names of the constants are those of the steps: `down` the columns, `twiddle`, `along` the rows, `spectrum` of
    the kernel, `back_along`, the conjugate twiddle, and `up` the columns again. Real and imaginary parts are stacked.
    The zero padding is not multiplied: `down` and `up` hold only the ``rows`` that the sequence fills.

    Args:
        kernel: [H, taps], real. A skip connection D is part of the kernel: it adds D to the first tap.
        length: L, length of the sequences.
    """

    # Constants that may be stored in half precision; twiddle and spectrum scale elementwise in float32.
    PRODUCTS = ("down", "along", "back_along", "up")

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
        # A kept row stands for itself and its conjugate, except rows 0 and n1 / 2, which are their own conjugates.
        weight = torch.full((kept, 1), 2.0 / n, dtype=torch.float64)
        weight[0] = 1.0 / n
        if n1 % 2 == 0:
            weight[-1] = 1.0 / n

        # A plain DFT multiplies the norm by sqrt(n), and turns a constant into one entry n times as large, which
        # overflows fp16. The inverse's factor 1 / n is spread over the four products, so that each preserves the norm.
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
        x = rearrange(x, "b h (r c) -> b h r c", c=self.columns)
        real, imag = product(self.down, x).chunk(2, dim=-2)
        real, imag = _multiply(real, imag, self.twiddle_real, self.twiddle_imag)
        real, imag = product(torch.cat([real, imag], dim=-1), self.along).chunk(2, dim=-1)
        real, imag = _multiply(real, imag, self.spectrum_real, self.spectrum_imag)
        real, imag = product(torch.cat([real, imag], dim=-1), self.back_along).chunk(2, dim=-1)
        real, imag = _multiply(real, imag, self.twiddle_real, -self.twiddle_imag)
        y = product(self.up, torch.cat([real, imag], dim=-2))
        return rearrange(y, "b h r c -> b h (r c)")[..., : self.length]


def split_length(length: int, taps: int) -> tuple[int, int]:
    """Returns factors n1, n2 whose product is long enough for a linear convolution, with the fewest multiplications.

    Real multiplications for each channel: `down` and `up` have 2 kept x rows entries and n2 columns; `along` and
    `back_along` multiply kept rows by a matrix of 2 n2 x 2 n2.
    """
    least = length + taps - 1
    best, best_cost = (1, least), math.inf
    for n2 in range(1, least + 1):
        n1 = math.ceil(least / n2)
        kept, rows = n1 // 2 + 1, math.ceil(length / n2)
        columns_cost, rows_cost = 2 * kept * rows * n2, kept * (2 * n2) ** 2
        cost = 2 * columns_cost + 2 * rows_cost
        if cost < best_cost:
            best, best_cost = (n1, n2), cost
    return best


def _dft(outputs: int, inputs: int, n: int) -> Tensor:
    """Returns ``exp(-2 pi i j k / n)`` for k < outputs, j < inputs: [outputs, inputs], complex128.

    The exponent is reduced modulo n in integers, so large arguments lose no digits.
    """
    exponent = torch.outer(torch.arange(outputs), torch.arange(inputs)) % n
    angle = exponent.double() * (-2 * torch.pi / n)
    return torch.polar(torch.ones_like(angle), angle)


def _real_form(matrix: Tensor) -> Tensor:
    """Returns the real [2n, 2n] matrix that multiplies rows [real | imaginary] by a complex matrix from the right."""
    top = torch.cat([matrix.real, matrix.imag], dim=1)
    bottom = torch.cat([-matrix.imag, matrix.real], dim=1)
    return torch.cat([top, bottom])


def _multiply(real: Tensor, imag: Tensor, other_real: Tensor, other_imag: Tensor) -> tuple[Tensor, Tensor]:
    """Multiplies complex numbers elementwise, by real and imaginary parts."""
    return real * other_real - imag * other_imag, real * other_imag + imag * other_real
