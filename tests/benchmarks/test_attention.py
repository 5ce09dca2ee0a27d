"""The attention decoder is the S4 decoder with another mixer, and the table has a row for each mixer."""

import pytest
import torch
from torch import nn

from benchmarks import attention
from benchmarks.attention import CALLS, measure
from benchmarks.baselines.attention import HEADS, AttentionDecoder, SelfAttention
from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder

CONFIG = DecoderConfig(d_input=48, l_max=40, d_output=5, d_model=32, d_state=8, n_layers=2)


@pytest.mark.parametrize("attention", ["softmax", "fused"])
def test_self_attention_equals_pytorchs(attention: str) -> None:
    torch.manual_seed(0)
    ours = SelfAttention(16, attention)
    theirs = nn.MultiheadAttention(16, HEADS, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    x = torch.randn(2, 9, 16)
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


def test_shapes_equal_those_of_the_s4_decoder() -> None:
    """Each block halves length and width, and the parameters outside of the mixer have equal names and shapes."""
    attention, s4 = AttentionDecoder(CONFIG, "fused"), S4Decoder(CONFIG)
    assert attention(torch.randn(3, 40, 48)).shape == s4(torch.randn(3, 40, 48)).shape == (3, 5)
    shared = {name: parameter.shape for name, parameter in s4.named_parameters() if ".s4." not in name}
    assert shared == {
        name: parameter.shape for name, parameter in attention.named_parameters() if ".attention." not in name
    }


def test_number_of_parameters_of_the_mixers() -> None:
    """S4: one matrix, and for each channel 4 N/2 complex values, dt and D; attention: four matrices."""
    attention, s4 = AttentionDecoder(CONFIG, "fused"), S4Decoder(CONFIG)
    for width, a, s in zip((32, 16), attention.blocks, s4.blocks, strict=True):
        matrix = width * width + width
        assert sum(p.numel() for p in a.attention.parameters()) == 4 * matrix
        assert sum(p.numel() for p in s.s4.parameters()) == matrix + width * (4 * CONFIG.d_state + 2) + CONFIG.d_state


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "peak_bytes", lambda *arguments, device: 1 + len(arguments[1]))
    rows = measure([16, 32], 16, ("fp32",), "cpu", repeats=1)
    assert {(row["L"], row["call"], row["mixer"]) for row in rows} == {
        (length, call, mixer) for length in (16, 32) for call in CALLS for mixer in ("S4", "softmax", "fused")
    }
    assert all(row["times_s4_seconds"] == 1 for row in rows if row["mixer"] == "S4")


def test_a_row_that_does_not_fit_into_memory_is_left_out_with_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "peak_bytes", lambda *arguments, device: 1)
    monkeypatch.setattr(attention, "free_bytes", lambda device: 0)
    assert {row["mixer"] for row in measure([16], 16, ("fp32",), "cpu", repeats=1)} == {"S4", "fused"}
    assert "L=16 step fp32 softmax: left out" in capsys.readouterr().out
