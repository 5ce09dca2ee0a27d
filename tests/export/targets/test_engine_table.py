"""Engines of TensorRT for RTX in every precision, lowering and profile: it builds them without a GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vis4mer.config import DecoderConfig, Preprocessing
from vis4mer.devices.device import Device
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.encoder import FrameEncoder
from vis4mer.runtime.interface import GraphInterface, TensorSpec
from vis4mer_export.freeze import freeze
from vis4mer_export.precision import in_precision
from vis4mer_export.targets.base import GraphSource
from vis4mer_export.targets.engine_options import BATCH_SIZE, HEAD_BATCH_SIZE, BatchProfile, EngineSettings
from vis4mer_export.targets.engines import build_engine
from vis4mer_export.targets.onnx import OnnxTarget, write_onnx

pytestmark = pytest.mark.slow

# An Ampere, an Ada and a Blackwell GPU, which have bf16.
GPUS = ("sm86", "sm89", "sm120")
# Padding to a smallest batch, one size alone, and the command's defaults.
PROFILES = [BatchProfile(2, 3, 4), BatchProfile(1, 1, 1)]


def build(source: GraphSource, profiles: Sequence[BatchProfile], folder: Path) -> None:
    graph = folder / f"{source.name}.onnx"
    write_onnx(source, graph)
    for profile in profiles:
        settings = EngineSettings("trt-rtx", profile, profile, Device("cuda"), GPUS)
        engine = folder / f"{source.name}.engine"
        report = build_engine(graph, engine, precision=source.precision, profile=profile, settings=settings)
        assert (report.precision, report.profile, report.gpus) == (source.precision, profile, GPUS)
        assert engine.stat().st_size == report.bytes > 0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_encoders(precision: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    torch.manual_seed(0)
    encoder = FrameEncoder.build("test_vit", Preprocessing(height=64, width=64), "random").eval()
    interface = GraphInterface(
        (TensorSpec("frames", "uint8", ("batch", 64, 64, 3)),), (TensorSpec("tokens", "float32", ("batch", 17, 64)),)
    )
    example = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    source = GraphSource("encoder", in_precision(encoder, precision), example, interface, precision)
    build(source, [*PROFILES, BATCH_SIZE.parse(BATCH_SIZE.default)], tmp_path)


@pytest.mark.parametrize("lowering", OnnxTarget.lowerings)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_heads(precision: Any, lowering: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    torch.manual_seed(0)
    decoder = S4Decoder(DecoderConfig(64, 500, 5, 64, 3)).eval()
    interface = GraphInterface(
        (TensorSpec("features", "float32", ("batch", 500, 64)),), (TensorSpec("logits", "float32", ("batch", 5)),)
    )
    module = freeze(decoder, 500, (lowering,), precision).module
    source = GraphSource("decoder", module, torch.zeros(2, 500, 64), interface, precision)
    build(source, [*PROFILES, HEAD_BATCH_SIZE.parse(HEAD_BATCH_SIZE.default)], tmp_path)
