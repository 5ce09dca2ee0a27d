"""The CUDA ops' arithmetic, launches and barriers, executed without a GPU against double precision."""

import os
import shutil

import pytest
import torch
from torch import Tensor

from vis4mer_kernels import reference

from .cuda_host import HostOps, compile_host_ops

LENGTHS = [1, 2, 63, 64, 295, 591, 1000]
# Relative L2 error: what the accumulation leaves in each precision.
FLOAT_ERROR = 2e-6
DOUBLE_ERROR = 1e-13


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostOps:
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    return compile_host_ops(compiler, tmp_path_factory.mktemp("cuda_host"))


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape and torch.isfinite(found).all()
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-300))


def conv_inputs(batch: int, length: int, channels: int, taps: int, dtype: torch.dtype) -> list[Tensor]:
    """grad, u, kernel, D; what a dtype of u rounds away is gone from the reference's input as well."""
    torch.manual_seed(length + channels)
    accumulated = torch.float64 if dtype == torch.float64 else torch.float32
    grad, u = torch.randn(2, batch, length, channels, dtype=torch.float64).to(dtype)
    decay = torch.exp(-torch.arange(taps, dtype=torch.float64) / 100)
    kernel = (torch.randn(channels, taps, dtype=torch.float64) * decay).to(accumulated)
    return [grad, u, kernel, torch.randn(channels, dtype=torch.float64).to(accumulated)]


def direct_conv(u: Tensor, kernel: Tensor, D: Tensor) -> Tensor:
    """[B, L, H] by the causal sum itself."""
    length, taps = u.shape[1], kernel.shape[1]
    lag = torch.arange(length)[:, None] - torch.arange(length)
    held = (lag >= 0) & (lag < taps)
    padded = torch.cat([kernel, kernel.new_zeros(len(kernel), 1)], dim=1)
    toeplitz = padded[:, torch.where(held, lag, taps)]
    return torch.einsum("hts,bsh->bth", toeplitz, u) + D * u


def conv_reference(grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    leaves = [x.double().requires_grad_() for x in inputs]
    y = direct_conv(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.double())]


def check_conv(ops: HostOps, inputs: list[Tensor], rounding: float, error: float) -> None:
    """`rounding` is that of results in u's dtype, `error` that of those in the accumulation's."""
    y, du, dkernel, dD = conv_reference(*inputs)
    found = [ops.long_conv(*inputs[1:]), *ops.long_conv_backward(*inputs)]
    for result, expected, bound in zip(found, (y, du, dkernel, dD), (rounding, rounding, error, error), strict=True):
        if expected.numel():
            assert relative(result, expected) <= bound


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, FLOAT_ERROR), (torch.float64, DOUBLE_ERROR)])
def test_long_conv_and_its_gradients(host: HostOps, length: int, dtype: torch.dtype, error: float) -> None:
    check_conv(host, conv_inputs(2, length, 3, length, dtype), error, error)


@pytest.mark.parametrize("length", [2, 591, 1025, 2100])
def test_long_conv_in_long_blocks(host: HostOps, length: int) -> None:
    check_conv(host.variant(block=1024), conv_inputs(1, length, 3, length, torch.float32), FLOAT_ERROR, FLOAT_ERROR)


@pytest.mark.parametrize("length", [2955, 11820])
def test_long_conv_of_whole_windows(host: HostOps, length: int) -> None:
    """Lengths at which the causal sum itself is out of reach; the reference is its transform in double precision."""
    grad, *inputs = conv_inputs(1, length, 1, length, torch.float32)
    leaves = [x.double().requires_grad_() for x in inputs]
    expected = reference.long_conv(leaves[0].transpose(1, 2), *leaves[1:]).transpose(1, 2)
    ops = host.variant(block=1024)
    gradients = torch.autograd.grad(expected, leaves, grad.double())
    found = [ops.long_conv(*inputs), *ops.long_conv_backward(grad, *inputs)]
    for result, exact in zip(found, (expected.detach(), *gradients), strict=True):
        assert relative(result, exact) <= FLOAT_ERROR


@pytest.mark.parametrize(
    ("batch", "length", "channels", "taps"),
    [(1, 300, 8, 1), (1, 300, 9, 17), (3, 600, 17, 257), (9, 70, 2, 64), (1, 40, 1, 0), (1, 1800, 1, 1790)],
)
def test_long_conv_of_uneven_shapes(host: HostOps, batch: int, length: int, channels: int, taps: int) -> None:
    """Channels beyond a tile, batches beyond a thread block, fewer taps than samples, many blocks."""
    inputs = conv_inputs(batch, length, channels, taps, torch.float32)
    check_conv(host, inputs, FLOAT_ERROR, FLOAT_ERROR)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-9), (torch.float16, 2**-12)])
def test_long_conv_of_half_precision_rounds_once(host: HostOps, dtype: torch.dtype, rounding: float) -> None:
    """Its accumulation is float32: results differ from the exact ones by the rounding of the output alone."""
    check_conv(host, conv_inputs(2, 295, 11, 295, dtype), rounding, FLOAT_ERROR)


def spectrum_inputs(channels: int, pairs: int, length: int, dtype: torch.dtype) -> list[Tensor]:
    """dt from 1e-4 to 1; poles as HiPPO-LegS has them, dt times -1/2 + i pi n; the exact nodes."""
    torch.manual_seed(length)
    dt = torch.logspace(-4, 0, channels, dtype=torch.float64)
    real = -0.5 - 0.1 * torch.rand(channels, pairs, dtype=torch.float64)
    poles = dt[:, None, None] * torch.stack([real, torch.pi * torch.arange(pairs).expand_as(real)], dim=-1)
    residues = torch.randn(4, channels, pairs, 2, dtype=torch.float64)
    grid = reference.exact_grid(length, torch.float64, torch.device("cpu"))
    inputs = [dt, poles, residues, torch.view_as_real(grid.numerator), grid.beta, torch.view_as_real(grid.factor)]
    return [x.to(dtype).contiguous() for x in inputs]


def spectrum_reference(
    dt: Tensor, poles: Tensor, residues: Tensor, numerator: Tensor, beta: Tensor, factor: Tensor
) -> Tensor:
    p, v, z, f = (torch.view_as_complex(x) for x in (poles, residues, numerator, factor))
    apart = z[:, None] - beta[:, None] * torch.stack([p, p.conj()])[:, :, None]
    sums = torch.einsum("jchn,chln->jhl", torch.stack([v, v.conj()], dim=1), 1 / apart)
    s = dt[:, None] * beta
    return torch.view_as_real(f * dt[:, None] * (sums[0] - s * sums[1] * sums[2] / (1 + s * sums[3])))


def check_spectrum(ops: HostOps, inputs: list[Tensor], error: float) -> None:
    exact = [x.double() for x in inputs]
    leaves = [x.requires_grad_() for x in exact[:3]]
    expected = spectrum_reference(*exact)
    assert relative(ops.ssm_spectrum(*inputs), expected.detach()) <= error
    # Each channel on its own: those of large steps would hide those of small ones.
    for channel, node in zip(ops.ssm_spectrum(*inputs), expected.detach(), strict=True):
        assert relative(channel, node) <= error
    grad = torch.randn_like(expected).to(inputs[0].dtype)
    for found, gradient in zip(
        ops.ssm_spectrum_backward(grad, *inputs), torch.autograd.grad(expected, leaves, grad.double()), strict=True
    ):
        assert relative(found, gradient) <= error


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_ssm_spectrum_and_its_gradients(host: HostOps, length: int, dtype: torch.dtype, error: float) -> None:
    check_spectrum(host, spectrum_inputs(3, 32, length, dtype), error)


@pytest.mark.parametrize(("channels", "pairs", "length"), [(1, 1, 64), (2, 5, 513), (1, 70, 100), (1, 8, 8300)])
def test_ssm_spectrum_of_other_state_sizes(host: HostOps, channels: int, pairs: int, length: int) -> None:
    """Fewer poles than lanes, more than one round of them, more nodes than one span."""
    check_spectrum(host, spectrum_inputs(channels, pairs, length, torch.float64), 1e-11)


def test_ssm_spectrum_at_nodes_with_a_real_part(host: HostOps) -> None:
    """As those of published checkpoints have, by rounding; here of the size of the imaginary one."""
    dt, poles, residues, numerator, beta, factor = spectrum_inputs(3, 8, 100, torch.float64)
    numerator[:, 0] = torch.rand(len(numerator), dtype=torch.float64)
    beta = torch.rand(len(beta), dtype=torch.float64) + 0.1
    check_spectrum(host, [dt, poles, residues, numerator, beta, factor], 1e-11)


def test_the_order_of_threads_changes_nothing(host: HostOps) -> None:
    """Nothing is read before it is written, nor added in the order in which threads happen to run."""
    conv = conv_inputs(3, 600, 9, 600, torch.float32)
    spectrum = spectrum_inputs(2, 32, 4200, torch.float32)
    grad = torch.randn(2, 2101, 2)
    runs = []
    for descending in (False, True):
        ops = host.variant(descending)
        results = [ops.long_conv(*conv[1:]), *ops.long_conv_backward(*conv)]
        results += [ops.variant(descending, block=1024).long_conv(*conv[1:])]
        runs.append([*results, ops.ssm_spectrum(*spectrum), *ops.ssm_spectrum_backward(grad, *spectrum)])
    for ascending, descending_run in zip(*runs, strict=True):
        assert torch.equal(ascending, descending_run)
