"""The operation that every matrix lowering consists of."""

import torch
from torch import Tensor


def product(left: Tensor, right: Tensor) -> Tensor:
    """Multiplies a float32 activation and a constant, in either order, in the constant's precision.

    If the constant is stored in half precision, the activation is rounded to it for this product alone. Sums, scans and
    elementwise factors around it stay in float32.

    Returns:
        The product in float32.
    """
    dtype = left.dtype if left.dtype != torch.float32 else right.dtype
    y: Tensor = torch.matmul(left.to(dtype), right.to(dtype)).to(torch.float32)
    return y
