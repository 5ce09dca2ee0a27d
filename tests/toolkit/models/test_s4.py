import pytest
import torch

from vis4mer.models.s4 import S4, SSMConv


@pytest.mark.parametrize("length", [1, 2, 7, 64, 295])
def test_convolution_equals_recurrence(length: int) -> None:
    torch.manual_seed(length)
    conv = SSMConv(channels=4, d_state=64, length=length).double()
    u = torch.randn(1, 4, length, dtype=torch.float64)
    A, B, C = conv.recurrence()
    state, outputs = torch.zeros_like(B), []
    for t in range(length):
        state = (A @ state[..., None])[..., 0] + B * u[0, :, t, None]
        outputs.append((C * state).sum(-1))
    recurrent = torch.stack(outputs, dim=-1)
    assert recurrent.imag.abs().max() < 1e-10
    expected = recurrent.real + conv.D[:, None] * u[0]
    # What is left is the condition number of I - A_bar^L, largest at length 1.
    assert (conv(u)[0] - expected).norm() / expected.norm() < 1e-11


@pytest.mark.parametrize("length", [1, 63, 1000, 2955, 11820])
def test_float32_kernel_is_accurate_at_every_length(length: int) -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=4, d_state=64, length=length)
    exact = SSMConv(channels=4, d_state=64, length=length).double()
    exact.load_state_dict(conv.state_dict())
    kernel, expected = conv.ssm_kernel(), exact.ssm_kernel()
    assert kernel.shape == (4, length)
    assert (kernel - expected).norm() / expected.norm() < 1e-5


def test_training_after_inference_in_one_process() -> None:
    conv = SSMConv(channels=2, d_state=8, length=1237)  # a length no other test has cached
    u = torch.randn(1, 2, 1237)
    with torch.inference_mode():
        expected = conv(u)
    y = conv(u)
    y.sum().backward()
    torch.testing.assert_close(y, expected)


def test_kept_kernel_follows_its_parameters() -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=2, d_state=8, length=40)
    with torch.inference_mode():
        first = conv.ssm_kernel()
        assert conv.ssm_kernel() is first
    with torch.no_grad():
        conv.log_dt += 0.5
        second = conv.ssm_kernel()
    assert not torch.allclose(second, first)
    conv.load_state_dict(SSMConv(channels=2, d_state=8, length=40).state_dict())
    with torch.no_grad():
        third = conv.ssm_kernel()
        assert conv.double().ssm_kernel().dtype == torch.float64
    assert not torch.allclose(third, second)
    assert conv.ssm_kernel().requires_grad


def test_layers_made_in_inference_mode_run() -> None:
    with torch.inference_mode():
        conv = SSMConv(channels=2, d_state=8, length=20)
        assert torch.isfinite(conv(torch.randn(1, 2, 20))).all()


def test_shorter_inputs_see_the_same_kernel() -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=3, d_state=16, length=50).double()
    u = torch.randn(2, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(conv(u[..., :20]), conv(u)[..., :20])


def test_layer_is_causal() -> None:
    torch.manual_seed(0)
    layer = S4(channels=8, d_state=16, length=40, dropout=0.5).double().eval()
    u = torch.randn(1, 40, 8, dtype=torch.float64)
    changed = u.clone()
    changed[:, 26:] += 1
    difference = (layer(changed) - layer(u)).abs().amax(dim=(0, 2))
    assert difference.shape == (20,)  # pairs of tokens are averaged
    assert difference[:13].max() < 1e-12
    assert difference[13:].min() > 1e-6


def test_bfloat16_parameters_compute_in_float32() -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=4, d_state=16, length=100)
    half = SSMConv(channels=4, d_state=16, length=100).bfloat16()
    half.load_state_dict(conv.state_dict())
    rounded = SSMConv(channels=4, d_state=16, length=100)
    rounded.load_state_dict(half.state_dict())
    assert half.ssm_kernel().dtype == torch.float32
    torch.testing.assert_close(half.ssm_kernel(), rounded.ssm_kernel())
    assert half(torch.randn(1, 4, 100, dtype=torch.bfloat16)).dtype == torch.bfloat16
