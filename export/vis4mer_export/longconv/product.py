"""The one operation that every matrix lowering consists of."""

import torch
from torch import Tensor


def product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product of a float32 activation with a constant, in the constant's precision; the result is float32.

    Where the constant was stored in half precision, the activation is rounded to it for the product alone: additions,
    scans and elementwise factors around it stay in float32.
    """
    dtype = left.dtype if left.dtype != torch.float32 else right.dtype
    y: Tensor = torch.matmul(left.to(dtype), right.to(dtype)).to(torch.float32)
    return y
