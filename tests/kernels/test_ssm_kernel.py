import math

import pytest
import torch
from torch import Tensor

from vis4mer.models.hippo import legs_nplr
from vis4mer_kernels import ops, reference
from vis4mer_kernels.library import Impl
from vis4mer_kernels.reference import FrequencyGrid, StateSpace

LENGTHS = [1, 2, 63, 64, 295, 591, 1000, 2955, 11820]


def _space(channels: int, d_state: int, dt: float | None, dtype: torch.dtype) -> StateSpace:
    """State spaces around HiPPO-LegS; every channel has the step dt, or one drawn log-uniformly from [1e-3, 1e-1]."""
    torch.manual_seed(channels + d_state)
    nplr = legs_nplr(d_state)
    shape = (channels, d_state // 2)

    def near(value: Tensor) -> Tensor:
        return value.to(torch.complex128) * (1 + 0.1 * torch.randn(shape, dtype=torch.complex128))

    log_dt = torch.rand(channels, dtype=torch.float64) * math.log(100) + math.log(1e-3)
    if dt is not None:
        log_dt = torch.full((channels,), math.log(dt), dtype=torch.float64)
    C = torch.randn(shape, dtype=torch.complex128)
    exact = StateSpace(log_dt, nplr.w, near(nplr.B), C, near(nplr.P), near(nplr.P))
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    return StateSpace(*(value.to(complex_dtype if value.is_complex() else dtype) for value in exact))


def _evaluate(space: StateSpace, length: int, device: torch.device, impl: Impl) -> list[Tensor]:
    """The kernel and the gradients of a weighted sum of its taps, which reach every parameter."""
    leaves = [value.to(device).requires_grad_() for value in space]
    grid = reference.exact_grid(length, leaves[0].dtype, device)
    kernel = ops.ssm_kernel(StateSpace(*leaves), grid, impl=impl)
    weights = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0)).to(kernel)
    return [kernel, *torch.autograd.grad((kernel * weights).sum(), leaves)]


def _error(actual: Tensor, expected: Tensor) -> float:
    wide = torch.complex128 if actual.is_complex() else torch.float64
    return float(((actual.to(wide) - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dt", [1e-4, None, 1.0])
def test_float32_equals_double_precision(length: int, dt: float | None, device: torch.device) -> None:
    channels = 3 if length > 1000 else 32  # cheap; one channel's rounding says little
    space = _space(channels, 64, dt, torch.float32)
    kernel, *grads = _evaluate(space, length, device, "native")
    exact, *exact_grads = _evaluate(space.double(), length, device, "reference")
    assert _error(kernel, exact) < 1e-5
    # dt's gradient is a sum that cancels, at L = 1 to nothing: there float32's own rounding is the measure.
    step, *others = map(_error, grads, exact_grads)
    rounded = _evaluate(space, length, device, "reference")[1]
    assert step < max(1e-4, 3 * _error(rounded, exact_grads[0]))
    assert max(others) < 1e-5


@pytest.mark.parametrize("length", [1, 2, 63, 64, 295, 591, 1000])
@pytest.mark.parametrize(("channels", "d_state"), [(1, 2), (5, 64), (7, 10)])
def test_double_precision_is_the_reference(length: int, channels: int, d_state: int, device: torch.device) -> None:
    space = _space(channels, d_state, None, torch.float64)
    kernel, *grads = _evaluate(space, length, device, "native")
    expected, *expected_grads = _evaluate(space, length, device, "reference")
    assert _error(kernel, expected) < 1e-13
    step, *others = map(_error, grads, expected_grads)
    assert step < 1e-10 or length == 1  # where it is rounding in both
    assert max(others) < 1e-12


def test_stored_roots_of_the_published_code(device: torch.device) -> None:
    """Roots of unity with their rounding: z has a real part, and nothing is multiplied out by a cosine."""
    space = StateSpace(*(value.to(device) for value in _space(4, 16, None, torch.float64)))
    omega = torch.polar(torch.ones(41), -2 * torch.pi / 81 * torch.arange(41)).to(torch.complex128).to(device)
    grid = FrequencyGrid(2 * (1 - omega) / (1 + omega), torch.ones_like(omega.real), 2 / (1 + omega), taps=80)
    expected = reference.ssm_kernel(space, grid)
    assert _error(ops.ssm_kernel(space, grid, impl="native"), expected) < 1e-12


def test_two_runs_and_any_number_of_threads_agree_bit_for_bit(device: torch.device) -> None:
    space = _space(9, 64, None, torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            torch.full((9, 296, 2), torch.nan, device=device)  # what freed memory holds must not matter
            results.append(_evaluate(space, 591, device, "native"))
    finally:
        torch.set_num_threads(threads)
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(two, three)


@pytest.mark.parametrize(("channels", "pairs", "frequencies"), [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_empty_inputs(channels: int, pairs: int, frequencies: int, device: torch.device) -> None:
    dt = torch.rand(channels, device=device, requires_grad=True)
    poles = torch.randn(channels, pairs, 2, device=device, requires_grad=True)
    residues = torch.randn(4, channels, pairs, 2, device=device, requires_grad=True)
    spectrum = torch.ops.vis4mer.ssm_spectrum(
        *(dt, poles, residues, torch.randn(frequencies, 2, device=device)),
        *(torch.ones(frequencies, device=device), torch.ones(frequencies, 2, device=device)),
    )
    assert spectrum.shape == (channels, frequencies, 2)
    assert not spectrum.any()
    spectrum.sum().backward()
    for leaf in (dt, poles, residues):
        assert leaf.grad is not None
        assert not leaf.grad.any()


def test_wrong_inputs_are_refused(device: torch.device) -> None:
    dt, poles, residues = torch.rand(3), torch.randn(3, 2, 2), torch.randn(4, 3, 2, 2)
    grid = [torch.randn(5, 2), torch.ones(5), torch.ones(5, 2)]
    for inputs, message in (
        ([dt, poles[:2], residues, *grid], "poles has a wrong shape"),
        ([dt, poles, residues[:3], *grid], "residues has a wrong shape"),
        ([dt, poles.double(), residues, *grid], "one dtype"),
        ([x.bfloat16() for x in (dt, poles, residues, *grid)], "float32 or float64"),
    ):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.vis4mer.ssm_spectrum(*(x.to(device) for x in inputs))


def test_registration(device: torch.device) -> None:
    torch.manual_seed(0)
    kind = {"dtype": torch.float64, "device": device}
    # Poles left of the imaginary axis, the grid on it.
    poles = torch.randn(2, 3, 2, **kind)  # type: ignore[call-overload]
    poles[..., 0] = -0.5 - poles[..., 0].abs()
    trained = [torch.rand(2, **kind) + 0.1, poles, torch.randn(4, 2, 3, 2, **kind)]  # type: ignore[call-overload]
    leaves = [x.requires_grad_() for x in trained]
    exact = reference.exact_grid(9, torch.float64, device)
    grid = [torch.view_as_real(exact.numerator), exact.beta, torch.view_as_real(exact.factor)]
    torch.library.opcheck(torch.ops.vis4mer.ssm_spectrum.default, (*leaves, *grid))
    grad = torch.randn(2, 5, 2, **kind)  # type: ignore[call-overload]
    inputs = (grad, *(x.detach() for x in leaves), *grid)
    torch.library.opcheck(torch.ops.vis4mer.ssm_spectrum_backward.default, inputs)
    assert torch.autograd.gradcheck(lambda *x: torch.ops.vis4mer.ssm_spectrum(*x, *grid), leaves)
    # The exact grid is imaginary; the stored one of published checkpoints has a real part and another beta.
    z, beta = torch.randn(5, 2, **kind), torch.rand(5, **kind) + 0.1  # type: ignore[call-overload]
    z[:, 0] = z[:, 0].abs()
    elsewhere = [z, beta, grid[2]]
    assert torch.autograd.gradcheck(lambda *x: torch.ops.vis4mer.ssm_spectrum(*x, *elsewhere), leaves)
