"""The attention decoder is S4's with another mixer, and what is measured of it is what the table says."""

from pathlib import Path

import pytest
import torch
from attention import CALLS, measure
from attention_plot import draw
from baselines.attention import HEADS, AttentionDecoder, SelfAttention
from torch import nn

from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder

CONFIG = DecoderConfig(d_input=48, l_max=40, d_output=5, d_model=32, d_state=8, n_layers=2)


@pytest.mark.parametrize("attention", ["softmax", "fused"])
def test_self_attention_is_pytorchs(attention: str) -> None:
    torch.manual_seed(0)
    ours = SelfAttention(16, attention)
    theirs = nn.MultiheadAttention(16, HEADS, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    x = torch.randn(2, 9, 16)
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


def test_shapes_are_those_of_s4_decoder() -> None:
    """Each block halves length and width, and every parameter outside of the mixer has its like."""
    attention, s4 = AttentionDecoder(CONFIG, "fused"), S4Decoder(CONFIG)
    assert attention(torch.randn(3, 40, 48)).shape == s4(torch.randn(3, 40, 48)).shape == (3, 5)
    shared = {name: parameter.shape for name, parameter in s4.named_parameters() if ".s4." not in name}
    assert shared == {
        name: parameter.shape for name, parameter in attention.named_parameters() if ".attention." not in name
    }


def test_mixers_parameters() -> None:
    """S4: one matrix and 4 N/2 complex, step and skip a channel; attention: four matrices."""
    attention, s4 = AttentionDecoder(CONFIG, "fused"), S4Decoder(CONFIG)
    for width, a, s in zip((32, 16), attention.blocks, s4.blocks, strict=True):
        matrix = width * width + width
        assert sum(p.numel() for p in a.attention.parameters()) == 4 * matrix
        assert sum(p.numel() for p in s.s4.parameters()) == matrix + width * (4 * CONFIG.d_state + 2) + CONFIG.d_state


def test_rows_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attention.peak_bytes", lambda *arguments, device: 1 + len(arguments[1]))
    rows = measure([16, 32], 16, ("fp32",), "cpu", repeats=1)
    assert {(row["L"], row["call"], row["mixer"]) for row in rows} == {
        (length, call, mixer) for length in (16, 32) for call in CALLS for mixer in ("S4", "softmax", "fused")
    }
    assert all(row["times_s4_seconds"] == 1 for row in rows if row["mixer"] == "S4")
    draw(rows, {"seconds": 2.63, "peak_bytes": 8.0}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_what_does_not_fit_is_left_out_and_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attention.peak_bytes", lambda *arguments, device: 1)
    monkeypatch.setattr("attention.free_bytes", lambda device: 0)
    assert {row["mixer"] for row in measure([16], 16, ("fp32",), "cpu", repeats=1)} == {"S4", "fused"}
    assert "L=16 step fp32 softmax: left out" in capsys.readouterr().out
