"""The native ops on a GPU at the limits of their shapes, on other streams, and in CUDA graphs.

Usual shapes are compared with double precision in `test_long_conv.py` and `test_ssm_kernel.py`, on all devices.
"""

import pytest
import torch
from torch import Tensor

from vis4mer.models.hippo import legs_nplr
from vis4mer_kernels import ops, reference
from vis4mer_kernels.library import Impl
from vis4mer_kernels.reference import StateSpace

from .conftest import require_ops

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU; without native ops there, the test is skipped, or fails where a GPU is required."""
    require_ops("cuda")
    return torch.device("cuda")


FLOAT_ERROR = 2e-6  # relative L2


def _error(actual: Tensor, expected: Tensor) -> float:
    wide = torch.complex128 if actual.is_complex() else torch.float64
    return float(((actual.to(wide) - expected).norm() / expected.norm()).detach())


def _conv_inputs(batch: int, channels: int, length: int, taps: int, device: torch.device) -> list[Tensor]:
    """u, kernel, D and the gradient of the output."""
    torch.manual_seed(length)
    shapes = ((batch, channels, length), (channels, taps), (channels,), (batch, channels, length))
    return [torch.randn(shape).to(device) for shape in shapes]


def _conv(u: Tensor, kernel: Tensor, D: Tensor, grad: Tensor, impl: Impl) -> list[Tensor]:
    """The output and all gradients; D weighs the present sample as the first tap does, so both are joined."""
    leaves = [x.detach().requires_grad_() for x in (u, kernel, D)]
    y = ops.long_conv(*leaves, impl=impl)
    du, dkernel, dD = torch.autograd.grad(y, leaves, grad)
    return [y.detach(), du, torch.cat([dkernel, dD[:, None]], dim=-1)]


@pytest.mark.parametrize(
    ("batch", "channels", "length", "taps"),
    [
        (1, 2, 100_000, 100_000),  # far beyond the paper's windows
        (2, 1024, 11_820, 11_820),  # spectra of several spans of channels
        (300, 3, 64, 64),  # many rows of a batch
        (2, 1025, 65, 65),  # one channel beyond the last whole tile, one sample beyond a power of two
        (3, 17, 4097, 1),  # a single tap
        (1, 1, 1, 1),
    ],
)
def test_long_conv(batch: int, channels: int, length: int, taps: int, gpu: torch.device) -> None:
    inputs = _conv_inputs(batch, channels, length, taps, gpu)
    exact = _conv(*(x.double() for x in inputs), impl="reference")
    for actual, expected in zip(_conv(*inputs, impl="native"), exact, strict=True):
        assert _error(actual, expected) < FLOAT_ERROR


@pytest.mark.parametrize(
    ("channels", "d_state", "length"), [(2, 64, 100_000), (1025, 2, 65), (1, 256, 4097), (1024, 64, 11_820)]
)
def test_ssm_kernel(channels: int, d_state: int, length: int, gpu: torch.device) -> None:
    """The reference is compared on sixteen channels, because it holds a Cauchy matrix for each; all are computed."""
    torch.manual_seed(channels)
    nplr, shape = legs_nplr(d_state), (channels, d_state // 2)
    log_dt = torch.empty(channels, dtype=torch.float64).uniform_(-6.9, -2.3)
    near = [
        value.to(torch.complex128) * (1 + 0.1 * torch.randn(shape, dtype=torch.complex128))
        for value in (nplr.B, nplr.P)
    ]
    C = torch.randn(shape, dtype=torch.complex128)
    space = StateSpace(log_dt, nplr.w, near[0], C, near[1], near[1])
    compared = list(range(0, channels, max(1, channels // 16)))

    def evaluate(dtype: torch.dtype, impl: Impl, rows: list[int]) -> list[Tensor]:
        complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        typed = [value.to(gpu, complex_dtype if value.is_complex() else dtype) for value in space]
        # The poles are shared by all channels; everything else has a row for each.
        leaves = [(value if value is typed[1] else value[rows]).requires_grad_() for value in typed]
        grid = reference.exact_grid(length, dtype, gpu)
        kernel = ops.ssm_kernel(StateSpace(*leaves), grid, impl=impl)
        weights = torch.randn(len(log_dt), length, generator=torch.Generator().manual_seed(0))[rows]
        loss = (kernel * weights.to(kernel)).sum()
        by_channel = [leaf for i, leaf in enumerate(leaves) if i != 1]
        return [kernel.detach(), *torch.autograd.grad(loss, by_channel)]

    found = [value[compared] for value in evaluate(torch.float32, "native", list(range(channels)))]
    kernel, dlog_dt, *others = map(_error, found, evaluate(torch.float64, "reference", compared))
    assert kernel < 1e-5
    assert dlog_dt < 1e-4  # a sum that cancels
    assert max(others) < 1e-5


def test_ops_follow_the_current_stream(gpu: torch.device) -> None:
    """The inputs are written on a side stream, behind work that takes longer than the launch of the op."""
    inputs = _conv_inputs(2, 64, 3000, 3000, gpu)
    expected = _conv(*inputs, impl="native")
    busy = torch.randn(4096, 4096, device=gpu)
    late = [torch.zeros_like(x) for x in inputs]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(20):
            busy = busy @ busy
            busy = busy / busy.norm()
        for target, source in zip(late, inputs, strict=True):
            target.copy_(source)
        found = _conv(*late, impl="native")
    side.synchronize()
    for actual, exact in zip(found, expected, strict=True):
        assert torch.equal(actual, exact)


def test_a_cuda_graph_holds_the_ops(gpu: torch.device) -> None:
    u, kernel, D, _ = _conv_inputs(2, 64, 3000, 3000, gpu)
    with torch.inference_mode():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):  # allocations and attributes of kernels are settled before the capture
            ops.long_conv(u, kernel, D, impl="native")
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = ops.long_conv(u, kernel, D, impl="native")
        u.copy_(torch.randn_like(u))
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(y, ops.long_conv(u, kernel, D, impl="native"))
