"""The time that the matrix products of a model take alone, in the process that measures the model."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vis4mer_kernels.linear import linear, onednn_is_faster

Multiply = Callable[[Tensor, Tensor, Tensor], object]  # a, b^T and where a b may be written


class Product(NamedTuple):
    """[rows, inner] times [inner, columns]: a linear layer on `rows` tokens."""

    rows: int
    inner: int
    columns: int

    @property
    def flop(self) -> int:
        """A multiplication and an addition for each of rows x inner x columns."""
        return 2 * self.rows * self.inner * self.columns


def decoder_products(length: int, width: int, blocks: int) -> list[Product]:
    """The linear layers of the published decoder: in each block, L x H x H of S4 and L/2 x H x H/2 after it."""
    sizes = [(length >> i, width >> i) for i in range(blocks)]
    return [p for L, H in sizes for p in (Product(L, H, H), Product(L // 2, H, H // 2))]


def torch_mm(a: Tensor, b_transposed: Tensor, out: Tensor) -> None:
    """PyTorch's own choice of library, into memory that is there already."""
    torch.mm(a, b_transposed.t(), out=out)


def fastest(a: Tensor, b_transposed: Tensor, out: Tensor) -> None:
    """The faster one of the libraries that PyTorch carries: in float32 on some CPUs oneDNN, which finds memory anew."""
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
        products: to compute.
        dtype: of all operands.
        device: of all operands.
        backward: computes the two products of the same size for the gradients of both operands, too.
        multiply: computes one product.
    """
    operands = []
    for product in products:
        *inputs, y = _random(product, dtype, device)
        dx, dw, dy = _random(product, dtype, device)
        # A product is bare where no operand need be turned first.
        operands.append(((*inputs, y), (dx, dw, dy), dy.t().contiguous()))

    def run() -> None:
        for (x, w, y), (dx, dw, dy), dy_transposed in operands:
            multiply(x, w, y)
            if backward:
                multiply(dy, w.t(), dx)
                multiply(dy_transposed, x.t(), dw)

    return run


def _random(product: Product, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weights, stored as those of a linear layer, and output."""
    rows, inner, columns = product
    shapes = ((rows, inner), (columns, inner), (rows, columns))
    x, w, y = (torch.randn(shape, device=device).to(dtype) for shape in shapes)
    return x, w, y
