"""The encoder's limit counts its operations, and every form of the encoder returns the same tokens."""

import pytest
import torch

from benchmarks.encoder import WAYS, block_products, flop_per_frame, measure
from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.models.encoder import FrameEncoder
from vis4mer_export.precision import DTYPES
from vis4mer_export.targets.registry import names


def test_vit_large_needs_123_gigaflop_per_frame() -> None:
    with torch.device("meta"):
        encoder = FrameEncoder(EncoderConfig(), Preprocessing())
    linear, attention, patches = 2 * 197 * 12 * 1024**2, 4 * 197**2 * 1024, 2 * 196 * 768 * 1024
    assert flop_per_frame(encoder) == 24 * (linear + attention) + patches
    assert sum(p.flop for p in block_products(encoder, 3)) == 3 * linear


def test_every_form_returns_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    # Compiling pt2 takes half a minute.
    monkeypatch.setitem(WAYS, "cpu", {"fp32": ("torchscript", "onnx"), "bf16": ("torchscript",)})
    preprocessing = Preprocessing(height=32, width=32)
    encoder = FrameEncoder.build("test_vit", preprocessing, "random").eval().requires_grad_(False)
    rows = measure(encoder, batches=(1, 3), repeats=1)["rows"]
    assert [(row["dtype"], row["batch"], row["way"]) for row in rows] == [
        (dtype, batch, way)
        for dtype, ways in (("fp32", ("eager", "torchscript", "onnx")), ("bf16", ("eager", "torchscript")))
        for batch in (1, 3)
        for way in ways
    ]
    for row in rows:
        assert row["drift"] < (2e-2 if row["dtype"] == "bf16" else 1e-5)
        assert row["share_of_limit"] == pytest.approx(row["frames_per_second"] / row["limit_frames_per_second"])


def test_a_form_that_cannot_be_built_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "cpu", {"fp32": ("trt",)})
    encoder = FrameEncoder.build("test_vit", Preprocessing(height=32, width=32), "random").eval().requires_grad_(False)
    result = measure(encoder, batches=(1,), repeats=1)
    assert [row["way"] for row in result["rows"]] == ["eager"]
    (absent,) = result["left_out"]
    assert (absent["way"], absent["dtype"]) == ("trt", "fp32")
    assert absent["reason"]


def test_a_gpu_measures_every_format_in_every_precision() -> None:
    assert set(WAYS["cuda"]) == set(DTYPES)
    for formats in WAYS["cuda"].values():
        assert set(formats) == set(names())
