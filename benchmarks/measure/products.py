"""The bare matrix products of a model, run in the process that measures the model: a lower bound on its time."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vis4mer_kernels.linear import linear, onednn_is_faster

Multiply = Callable[[Tensor, Tensor, Tensor], object]
"""Computes a b from a, b^T and a tensor that may take the result."""


class Product(NamedTuple):
    """The product of [rows, inner] and [inner, columns]: a linear layer on `rows` tokens."""

    rows: int
    inner: int
    columns: int

    @property
    def flop(self) -> int:
        """Floating-point operations: one multiplication and one addition for each of rows x inner x columns."""
        return 2 * self.rows * self.inner * self.columns


def decoder_products(length: int, width: int, blocks: int) -> list[Product]:
    """Returns the linear layers of the published decoder: L x D x D in S4 and L/2 x D x D/2 after it in each block."""
    sizes = [(length >> i, width >> i) for i in range(blocks)]
    return [p for L, D in sizes for p in (Product(L, D, D), Product(L // 2, D, D // 2))]


def torch_mm(a: Tensor, b_transposed: Tensor, out: Tensor) -> None:
    """Multiplies with the library that PyTorch chooses, into memory allocated before."""
    torch.mm(a, b_transposed.t(), out=out)


def fastest(a: Tensor, b_transposed: Tensor, out: Tensor) -> None:
    """Multiplies with the faster of PyTorch's libraries: for fp32 on some CPUs oneDNN, which allocates its result."""
    if a.dtype == torch.float32 and a.device.type == "cpu" and onednn_is_faster():
        linear(a, b_transposed)
    else:
        torch_mm(a, b_transposed, out)


def run_products(
    products: Iterable[Product],
    dtype: torch.dtype,
    device: str = "cpu",
    *,
    backward: bool = False,
    multiply: Multiply = fastest,
) -> Callable[[], None]:
    """Returns a call that computes the products.

    Args:
        products: Sizes of the products.
        dtype: Type of all operands.
        device: Device of all operands.
        backward: Whether the call also computes the two products, of the same size, for the gradients of both operands.
        multiply: Function that computes one product.
    """
    operands = []
    for product in products:
        *inputs, y = _random(product, dtype, device)
        dx, dw, dy = _random(product, dtype, device)
        # Transposed here, so that no timed product has to copy an operand first.
        operands.append(((*inputs, y), (dx, dw, dy), dy.t().contiguous()))

    def run() -> None:
        for (x, w, y), (dx, dw, dy), dy_transposed in operands:
            multiply(x, w, y)
            if backward:
                multiply(dy, w.t(), dx)
                multiply(dy_transposed, x.t(), dw)

    return run


def _random(product: Product, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns input [rows, inner], weights [columns, inner] as a linear layer stores them, output [rows, columns]."""
    rows, inner, columns = product
    shapes = ((rows, inner), (columns, inner), (rows, columns))
    x, w, y = (torch.randn(shape, device=device).to(dtype) for shape in shapes)
    return x, w, y
