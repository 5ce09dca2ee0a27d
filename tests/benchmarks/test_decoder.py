"""The baseline computes the same function as the decoder, and the table has a row for each way with its limit."""

import pytest
import torch

from benchmarks import decoder
from benchmarks.baselines.straightforward import StraightforwardDecoder
from benchmarks.decoder import BASELINE, PRODUCTS, Run, measure
from benchmarks.measure.calls import by_ops, gradients, impls
from benchmarks.measure.growth import growth
from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder
from vis4mer_kernels.library import native


def _config(length: int, width: int = 16) -> DecoderConfig:
    return DecoderConfig(d_input=width, l_max=length, d_output=5, d_model=width, d_state=8, n_layers=2)


@pytest.fixture
def tiny() -> DecoderConfig:
    return _config(97)


@pytest.mark.parametrize("length", [4, 96, 197, 1000])
def test_baseline_and_decoder_have_equal_logits_and_gradients(length: int) -> None:
    torch.manual_seed(0)
    ours, baseline = S4Decoder(_config(length)).eval(), StraightforwardDecoder(_config(length)).eval()
    baseline.load_state_dict(ours.state_dict())
    features = torch.randn(2, length, 16)
    assert torch.allclose(baseline(features), ours(features), atol=1e-4)
    actual, expected = gradients(ours, features), gradients(baseline, features)
    assert (actual - expected).norm() < 1e-3 * expected.norm()


def test_logits_of_the_baseline_depend_on_its_kernel(tiny: DecoderConfig) -> None:
    """Otherwise the agreement above would not test the kernel."""
    baseline = StraightforwardDecoder(tiny).eval()
    baseline.load_state_dict(S4Decoder(tiny).state_dict())
    features = torch.randn(2, tiny.l_max, 16)
    before = baseline(features)
    with torch.no_grad():
        baseline.blocks[0].s4.conv.C.mul_(3)
    assert not torch.allclose(baseline(features), before, atol=1e-4)


def test_every_way_has_a_row_with_its_limit(tiny: DecoderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "peak_bytes", lambda *arguments, device: 1)  # tested in test_memory.py
    rows = measure(tiny, repeats=1)
    runs = {Run(row["call"], row["way"], row["dtype"]): row for row in rows}
    for run, row in runs.items():
        limit = runs[run._replace(way="limit")]
        assert row["times_limit"] == row["seconds"] / limit["seconds"]
        assert (row["drift"] is not None) == (run.way not in (*PRODUCTS, BASELINE))
        assert (row["peak_bytes"] is not None) == (run.call == "step" and run.way not in PRODUCTS)
        if row["drift"] is not None:
            assert row["drift"] < (3e-2 if run.dtype == "bf16" else 1e-4)
    ways = {(run.call, run.way) for run in runs}
    assert ways >= {("forward", "torchscript"), ("forward", "onnx"), *(("step", impl) for impl in impls())}


def test_by_ops_selects_the_implementation() -> None:
    is_native = by_ops("reference", lambda: native("auto", "cpu"))
    assert is_native() is False
    assert native("auto", "cpu") is ("native" in impls())


def test_growth_has_seconds_per_token() -> None:
    rows = growth((40, 80), width=8, repeats=1)
    assert [row["L"] for row in rows] == [40, 80]
    assert all(0 < row["forward_seconds_per_token"] < 1 for row in rows)
