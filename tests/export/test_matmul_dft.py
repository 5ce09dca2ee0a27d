import numpy as np
import pytest
import torch

from vis4mer_export.longconv.matmul_dft import MatmulDFTConv, split_length


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 295, 591, 1020, 2955, 11820])
def test_random_kernel_against_double_precision(length: int) -> None:
    rng = np.random.default_rng(length)
    u, kernel = rng.normal(size=(2, 3, length)), rng.normal(size=(3, length))
    n = 2 * length
    product = np.fft.rfft(u, n) * np.fft.rfft(kernel, n)
    expected = np.fft.irfft(product, n)[..., :length]
    y = MatmulDFTConv(torch.tensor(kernel), length)(torch.tensor(u, dtype=torch.float32))
    assert relative_error(y.double().numpy(), expected) <= 1e-5


@pytest.mark.parametrize(("taps", "length"), [(294, 295), (5, 100), (100, 5)])
def test_kernel_shorter_or_longer_than_the_sequence(taps: int, length: int) -> None:
    rng = np.random.default_rng(0)
    u, kernel = rng.normal(size=length), rng.normal(size=taps)
    y = MatmulDFTConv(torch.tensor(kernel)[None], length)(torch.tensor(u, dtype=torch.float32)[None, None])
    assert relative_error(y[0, 0].double().numpy(), np.convolve(u, kernel)[:length]) <= 1e-5


@pytest.mark.parametrize("length", [1, 2, 7, 1020, 11820])
def test_the_transform_is_long_enough_and_splits_evenly(length: int) -> None:
    n1, n2 = split_length(length, length)
    assert 2 * length - 1 <= n1 * n2 < 2 * length - 1 + n2
    if length == 11820:  # square-ish factors, not a dense transform of the whole length
        assert max(n1, n2) < 500
