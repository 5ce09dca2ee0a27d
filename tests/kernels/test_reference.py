import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vis4mer_kernels import reference


@given(st.integers(1, 50_000))
def test_good_fft_length_is_the_next_even_five_smooth_number(minimum: int) -> None:
    def smooth(n: int) -> bool:
        for prime in (2, 3, 5):
            while n % prime == 0:
                n //= prime
        return n == 1

    found = reference.good_fft_length(minimum)
    expected = next(n for n in range(minimum, 2 * minimum + 2) if n % 2 == 0 and smooth(n))
    assert found == expected


@pytest.mark.parametrize(("length", "taps"), [(1, 1), (7, 7), (7, 3), (64, 100), (295, 294)])
def test_long_conv_is_the_causal_sum(length: int, taps: int) -> None:
    rng = np.random.default_rng(0)
    u, kernel, D = rng.normal(size=(2, 3, length)), rng.normal(size=(3, taps)), rng.normal(size=3)
    expected = np.stack(
        [[np.convolve(u[b, h], kernel[h])[:length] + D[h] * u[b, h] for h in range(3)] for b in range(2)]
    )
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        y = reference.long_conv(*(torch.tensor(x, dtype=dtype) for x in (u, kernel, D)))
        np.testing.assert_allclose(y.double(), expected, atol=tolerance * abs(expected).max())


def test_long_conv_takes_strided_and_half_precision_inputs() -> None:
    torch.manual_seed(0)
    u = torch.randn(2, 40, 3).transpose(1, 2)
    kernel, D = torch.randn(3, 40), torch.randn(3)
    exact = reference.long_conv(u, kernel, D)
    half = reference.long_conv(u.bfloat16(), kernel, D)
    assert half.dtype == torch.bfloat16
    # bf16 keeps 8 bits: one rounding in, one out.
    assert (half - exact).norm() / exact.norm() < 2**-7


@pytest.mark.parametrize("length", [1, 2, 5, 64, 101])
def test_kernel_without_low_rank_is_a_sum_of_geometric_series(length: int) -> None:
    """With P = 0 the system is diagonal and K[l] = 2 Re sum_n conj(C) a^l b has a closed form."""
    torch.manual_seed(length)
    H, half = 3, 4
    log_dt = torch.full((H,), math.log(0.05), dtype=torch.float64)
    w = torch.complex(-torch.rand(half).double() - 0.5, torch.randn(half).double())
    B, C_tilde = (torch.randn(H, half, dtype=torch.complex128) for _ in range(2))
    zero = torch.zeros_like(B)
    grid = reference.exact_grid(length, torch.float64, torch.device("cpu"))
    space = reference.StateSpace(log_dt, w, B, C_tilde, zero, zero)
    kernel = reference.ssm_kernel(space, grid)

    dt = 0.05
    a, b = (1 + dt / 2 * w) / (1 - dt / 2 * w), dt / (1 - dt / 2 * w) * B
    c = C_tilde.conj() / (1 - a**length)
    expected = 2 * torch.stack([(c * a**lag * b).sum(-1).real for lag in range(length)], dim=-1)
    torch.testing.assert_close(kernel, expected, rtol=1e-10, atol=1e-12)


def test_kernel_gradients_survive_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluating one frequency at a time, again in the backward pass, changes neither values nor gradients."""
    torch.manual_seed(0)
    H, half = 2, 3
    inputs = [torch.rand(H).double() - 4, torch.complex(-torch.rand(half).double(), torch.randn(half).double())]
    inputs += [torch.randn(H, half, dtype=torch.complex128) * 0.3 for _ in range(4)]
    grid = reference.exact_grid(11, torch.float64, torch.device("cpu"))
    results = []
    for chunk in (1 << 23, 1):
        monkeypatch.setattr(reference, "_CAUCHY_CHUNK", chunk)
        leaves = [x.clone().requires_grad_() for x in inputs]
        kernel = reference.ssm_kernel(reference.StateSpace(*leaves), grid)
        results.append([kernel, *torch.autograd.grad(kernel.pow(2).sum(), leaves)])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole)
    leaves = [x.clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(lambda *x: reference.ssm_kernel(reference.StateSpace(*x), grid), leaves)
