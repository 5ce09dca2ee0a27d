"""Every lowering of the long convolution against a double-precision one."""

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vis4mer.errors import ExportError
from vis4mer.models.s4 import SSMConv
from vis4mer_export.longconv import Lowering
from vis4mer_export.longconv.blocked_toeplitz import BlockedToeplitzConv
from vis4mer_export.longconv.fft import FFTConv
from vis4mer_export.longconv.lower import fixed_kernel, lower
from vis4mer_export.longconv.matmul_dft import MatmulDFTConv, split_length

LENGTHS = [1, 2, 3, 63, 64, 129, 257, 295, 591, 1020, 2955, 11820]
MATRICES: tuple[Lowering, ...] = ("blocked_toeplitz", "matmul_dft")
ANY_KERNEL = [FFTConv, MatmulDFTConv]


def relative_error(actual: torch.Tensor, expected: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(actual.double().numpy() - expected) / np.linalg.norm(expected))


def convolve(u: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    length = u.shape[-1]
    n = length + kernel.shape[-1]
    return np.asarray(np.fft.irfft(np.fft.rfft(u, n) * np.fft.rfft(kernel, n), n)[..., :length])


def exact_output(conv: SSMConv, u: torch.Tensor) -> NDArray[np.float64]:
    """The layer's own double-precision convolution, whose kernel comes from the generating function."""
    with torch.no_grad():
        return copy.deepcopy(conv).double()(u.double()).numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("lowering", ANY_KERNEL)
def test_random_kernels(lowering: type[FFTConv | MatmulDFTConv], length: int) -> None:
    rng = np.random.default_rng(length)
    u, kernel = rng.normal(size=(2, 3, length)), rng.normal(size=(3, length))
    y = lowering(torch.tensor(kernel), length)(torch.tensor(u, dtype=torch.float32))
    assert relative_error(y, convolve(u.astype(np.float32), kernel)) <= 1e-5


@pytest.mark.parametrize("length", LENGTHS)
def test_state_space_by_blocks(length: int) -> None:
    torch.manual_seed(length)
    conv = SSMConv(channels=3, d_state=64, length=length)
    u = torch.randn(2, 3, length)
    assert relative_error(BlockedToeplitzConv(conv, length)(u), exact_output(conv, u)) <= 1e-5


@pytest.mark.parametrize("block", [1, 2, 5, 100])
def test_any_block_size(block: int) -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=2, d_state=8, length=61)
    u = torch.randn(1, 2, 61)
    assert relative_error(BlockedToeplitzConv(conv, 61, block)(u), exact_output(conv, u)) <= 1e-5


@pytest.mark.parametrize("mean", [0.0, 30.0])
@pytest.mark.parametrize("length", [64, 1182, 11820])
@pytest.mark.parametrize("name", ["blocked_toeplitz", "matmul_dft"])
def test_half_precision_survives_channels_far_from_zero(name: str, length: int, mean: float) -> None:
    """ViTs give some channels large constant values, which an unscaled transform sums beyond fp16's range."""
    torch.manual_seed(0)
    conv = SSMConv(channels=3, d_state=64, length=length)
    lowered = lower(conv, length, (name,), "fp16")  # type: ignore[arg-type]
    u = torch.randn(1, 3, length) + mean
    assert relative_error(lowered.module(u), exact_output(conv, u)) <= 5e-3


def test_candidates_are_measured_in_the_requested_precision() -> None:
    """With tiny steps the state's readout is large: exact in fp32, beyond fp16."""
    torch.manual_seed(0)
    conv = SSMConv(channels=2, d_state=64, length=8)
    conv.log_dt.data.fill_(-14.0)
    assert lower(conv, 8, MATRICES).lowering == "blocked_toeplitz"
    half = lower(conv, 8, MATRICES, precision="fp16")
    assert half.lowering == "matmul_dft"
    (skipped,) = half.skipped
    assert skipped.startswith("blocked_toeplitz: relative error")


@pytest.mark.parametrize(
    ("change", "lowering"), [("unstable pole", "blocked_toeplitz"), ("vanishing step", "matmul_dft")]
)
def test_the_choice_is_exact_for_extreme_state_spaces(change: str, lowering: str) -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=2, d_state=16, length=2000)
    if change == "unstable pole":
        conv.w.data[:, 0] = 0.5
        conv.log_dt.data.fill_(-1.0)
    else:
        conv.log_dt.data.fill_(-40.0)
    choice = lower(conv, 2000, MATRICES)
    assert choice.lowering == lowering
    assert choice.relative_l2 <= 1e-5


@pytest.mark.parametrize(("taps", "length"), [(294, 295), (5, 100), (100, 5)])
@pytest.mark.parametrize("lowering", ANY_KERNEL)
def test_kernels_shorter_or_longer_than_the_sequence(
    lowering: type[FFTConv | MatmulDFTConv], taps: int, length: int
) -> None:
    rng = np.random.default_rng(0)
    u, kernel = rng.normal(size=length).astype(np.float32), rng.normal(size=taps)
    y = lowering(torch.tensor(kernel)[None], length)(torch.tensor(u)[None, None])
    assert relative_error(y[0, 0], np.convolve(u, kernel)[:length]) <= 1e-5


@pytest.mark.parametrize("length", [1, 2, 7, 1020, 11820])
def test_dft_is_long_enough_and_splits_evenly(length: int) -> None:
    n1, n2 = split_length(length, length)
    assert n1 * n2 >= 2 * length - 1
    if length == 11820:  # square-ish factors, not a dense transform of the whole length
        assert max(n1, n2) < 500


def test_the_first_candidate_that_suits_the_kernel_is_taken() -> None:
    torch.manual_seed(0)
    exact = SSMConv(channels=3, d_state=16, length=100)
    assert lower(exact, 100, MATRICES).lowering == "blocked_toeplitz"
    assert lower(exact, 100, ("fft", *MATRICES)).lowering == "fft"
    stored = SSMConv(channels=3, d_state=16, length=100, nodes="stored")
    stored.load_state_dict(exact.state_dict(), strict=False)
    omega = torch.polar(torch.ones(51), -2 * torch.pi / 100 * torch.arange(51)).to(torch.complex64)
    stored.omega = torch.view_as_real(omega).clone()
    stored.z = torch.view_as_real(2 * (1 - omega) / (1 + omega)).clone()
    choice = lower(stored, 100, MATRICES)
    assert choice.lowering == "matmul_dft"
    assert choice.skipped == ("blocked_toeplitz: the stored kernel is not exactly a state space's",)
    with pytest.raises(
        ExportError, match=r"^lowering='blocked_toeplitz': .*not exactly a state space's; choose another"
    ):
        lower(stored, 100, ("blocked_toeplitz",))


def test_fixed_kernel_holds_the_skip_and_reproduces_the_layer() -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=3, d_state=16, length=50)
    u = torch.randn(1, 3, 50)
    expected = convolve(u.double().numpy(), fixed_kernel(conv).numpy())
    with torch.no_grad():
        assert relative_error(conv(u), expected) <= 1e-5
