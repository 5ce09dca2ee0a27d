import pytest
import torch
from torch import Tensor

from vis4mer.errors import OpsError
from vis4mer_kernels import ops, reference

LENGTHS = [1, 2, 63, 64, 295, 591, 1000, 2955, 11820]


def _inputs(length: int, taps: int, channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """u, kernel, D and the gradient of the output, from one seed."""
    torch.manual_seed(length)
    u, grad = (torch.randn(2, channels, length, dtype=torch.float64).to(dtype).to(device) for _ in range(2))
    wide = torch.promote_types(dtype, torch.float32)
    kernel, D = torch.randn(channels, taps, dtype=wide), torch.randn(channels, dtype=wide)
    return u, kernel.to(device), D.to(device), grad


def _joined(y: Tensor, du: Tensor, dkernel: Tensor, dD: Tensor) -> list[Tensor]:
    """D weighs the present sample, like the first tap, so its gradient is compared together with the taps'."""
    return [y, du, torch.cat([dkernel, dD[:, None]], dim=-1)]


def _exact(u: Tensor, kernel: Tensor, D: Tensor, grad: Tensor) -> list[Tensor]:
    """The output and the gradients in double precision, by the reference."""
    leaves = [x.double().requires_grad_() for x in (u, kernel, D)]
    y = reference.long_conv(*leaves)
    return [y, *torch.autograd.grad(y, leaves, grad.double())]


def _native(u: Tensor, kernel: Tensor, D: Tensor, grad: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in (u, kernel, D)]
    y = ops.long_conv(*leaves, impl="native")
    return [y, *torch.autograd.grad(y, leaves, grad)]


def _error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual.double() - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("channels", [1, 16, 19])
def test_equals_double_precision_forward_and_backward(length: int, channels: int, device: torch.device) -> None:
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        inputs = _inputs(length, length, channels, dtype, device)
        for actual, expected in zip(_joined(*_native(*inputs)), _joined(*_exact(*inputs)), strict=True):
            assert _error(actual, expected) < tolerance


@pytest.mark.parametrize(("length", "taps"), [(64, 63), (591, 100), (100, 150), (20, 1)])
def test_kernels_of_another_length(length: int, taps: int, device: torch.device) -> None:
    """Missing taps count as zero; taps beyond the sequence are ignored and receive no gradient."""
    inputs = _inputs(length, taps, 5, torch.float64, device)
    for actual, expected in zip(_joined(*_native(*inputs)), _joined(*_exact(*inputs)), strict=True):
        assert _error(actual, expected) < 1e-13


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_only_what_it_stores(dtype: torch.dtype, device: torch.device) -> None:
    inputs = _inputs(1000, 1000, 19, dtype, device)
    y, du, dkernel, dD = _native(*inputs)
    assert (y.dtype, du.dtype, dkernel.dtype, dD.dtype) == (dtype, dtype, torch.float32, torch.float32)
    exact = _exact(*inputs)
    rounding = torch.finfo(dtype).eps / 4  # of what is stored; rounded operands would err by more
    assert _error(y, exact[0]) < rounding
    assert _error(du, exact[1]) < rounding
    assert _error(dkernel, exact[2]) < 2e-6
    assert _error(dD, exact[3]) < 2e-6


def test_memory_layouts_do_not_matter(device: torch.device) -> None:
    u, kernel, D, grad = _inputs(100, 100, 6, torch.float64, device)
    expected = _native(u, kernel, D, grad)
    channels_last = u.transpose(1, 2).contiguous().transpose(1, 2)
    sliced = torch.stack([u, u], dim=-1)[..., 0]
    for other in (channels_last, sliced):
        actual = _native(other, kernel.t().contiguous().t(), D.repeat_interleave(2)[::2], grad[:, :, :].clone())
        for a, b in zip(actual, expected, strict=True):
            assert torch.equal(a, b)


def test_every_element_of_every_output_is_written(device: torch.device) -> None:
    """Results do not depend on the previous contents of memory: here NaN, in freed blocks of the same sizes."""
    u, kernel, D, grad = _inputs(591, 300, 19, torch.float32, device)
    expected = _native(u, kernel, D, grad)
    for _ in range(3):
        for shape in (u.shape, kernel.shape, D.shape):
            torch.full(shape, torch.nan, device=device)
        for a, b in zip(_native(u, kernel, D, grad), expected, strict=True):
            assert torch.equal(a, b)  # bit for bit, which no NaN equals


def test_threads_do_not_change_a_bit() -> None:
    inputs = _inputs(295, 295, 100, torch.float32, torch.device("cpu"))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(_native(*inputs))
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("shape", [(0, 3, 8), (2, 0, 8), (2, 3, 0)])
def test_empty_inputs(shape: tuple[int, int, int], device: torch.device) -> None:
    _, channels, length = shape
    u = torch.zeros(shape, device=device, requires_grad=True)
    kernel = torch.randn(channels, length, device=device, requires_grad=True)
    D = torch.randn(channels, device=device, requires_grad=True)
    y = ops.long_conv(u, kernel, D, impl="native")
    assert y.shape == shape
    y.sum().backward()
    assert kernel.grad is not None
    assert D.grad is not None
    assert not kernel.grad.any()
    assert not D.grad.any()


def test_wrong_shapes_are_refused(device: torch.device) -> None:
    u = torch.randn(2, 10, 4, device=device)
    kernel, D = torch.randn(4, 10, device=device), torch.randn(4, device=device)
    for arguments, message in (
        ((u, kernel[:3].contiguous(), D), "kernel has a wrong shape"),
        ((u, kernel, D[:3].contiguous()), "D has a wrong shape"),
        ((u.transpose(0, 1), kernel, D), "u must be contiguous"),
        ((u, kernel.double(), D), "kernel and D must be float32"),
        ((u[:, :9].contiguous(), kernel, D), "at most as many taps"),
        ((u.int(), kernel, D), "floating-point"),
    ):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.vis4mer.long_conv(*arguments)


def test_second_derivatives_are_refused_rather_than_wrong(device: torch.device) -> None:
    u = torch.randn(1, 2, 10, device=device, requires_grad=True)
    kernel, D = torch.randn(2, 10, device=device), torch.randn(2, device=device)
    y = ops.long_conv(u, kernel, D, impl="native")
    with pytest.raises(OpsError, match="no second derivatives"):
        torch.autograd.grad(y.square().sum(), u, create_graph=True)


def test_registration(device: torch.device) -> None:
    u = torch.randn(2, 30, 3, dtype=torch.float64, device=device, requires_grad=True)
    kernel = torch.randn(3, 20, dtype=torch.float64, device=device, requires_grad=True)
    D = torch.randn(3, dtype=torch.float64, device=device, requires_grad=True)
    torch.library.opcheck(torch.ops.vis4mer.long_conv.default, (u, kernel, D))
    grad = torch.randn_like(u).detach()
    backward = torch.ops.vis4mer.long_conv_backward.default
    torch.library.opcheck(backward, (grad, *(x.detach() for x in (u, kernel, D))))
    assert torch.autograd.gradcheck(torch.ops.vis4mer.long_conv, (u, kernel, D))
