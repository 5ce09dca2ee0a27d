"""The same model on the CPU and on a GPU: every backend that needs no engine, and the classifier over each.

Engines of TensorRT are compared in the tests of their backend.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.devices.arrays import DeviceArray, on_host
from vis4mer.devices.cuda import stream_of
from vis4mer.devices.device import CPU, Device
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.parity import PARITY_TOLERANCES, check_bundle

pytestmark = pytest.mark.gpu

GPU = Device("cuda")
FORMATS = ("onnx", "torchscript", "pt2", "checkpoint")


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Paths of the small checkpoint in every format, each exported once; packages are compiled for the GPU."""
    made: dict[str, Path] = {"checkpoint": checkpoint}

    def path(format: str) -> Path:
        if format not in made:
            from vis4mer.models.checkpoint import load_checkpoint
            from vis4mer_export.exporter import export_model
            from vis4mer_export.options import ExportOptions

            options = ExportOptions(format, "fp32", target_options={"device": "cuda"} if format == "pt2" else {})
            output = tmp_path_factory.mktemp("export") / format
            made[format] = export_model(load_checkpoint(checkpoint), output, options).path
        return made[format]

    return path


def inputs(model: Any, graph: str, rows: int, seed: int) -> np.ndarray:
    """Random frames, or tokens of the size that an encoder returns."""
    rng = np.random.default_rng(seed)
    if graph == "encoder":
        return rng.integers(0, 256, (rows, model.preprocessing.height, model.preprocessing.width, 3), dtype=np.uint8)
    length = model.window_frames * model.encoder.tokens
    return rng.normal(size=(rows, length, model.encoder.features)).astype(np.float32)


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative L2 error of a row, as the comparison of an export measures it."""
    pairs = zip(actual.astype(np.float64), expected.astype(np.float64), strict=True)
    return max(float(np.linalg.norm(a - e) / np.linalg.norm(e)) for a, e in pairs)


@pytest.mark.parametrize("format", FORMATS)
def test_every_graph_computes_in_float32_what_the_cpu_computes(
    format: str, model: Callable[[str], Path], checkpoint: Path
) -> None:
    """TF32 in the encoder's convolution alone would exceed the tolerance."""
    cpu = vis4mer.load(checkpoint, device="cpu", precision="fp32")
    # A bundle has a precision of its own, which is float32 here.
    gpu = vis4mer.load(model(format), device="cuda", precision="fp32")
    for graph, run in gpu.stages.runners.items():
        for rows in (1, 3, 8):
            batch = inputs(cpu.model, graph, rows, seed=rows)
            expected = on_host(cpu.stages.runners[graph](batch))
            for source in (batch, DeviceArray.upload(batch, GPU)):
                result = run(source)
                assert isinstance(result, DeviceArray)
                assert result.device == GPU
                assert error(result.numpy(), expected) <= PARITY_TOLERANCES["fp32"], (graph, rows)


@pytest.mark.parametrize("format", FORMATS)
def test_batches_in_flight_do_not_mix(format: str, model: Callable[[str], Path]) -> None:
    """Nothing is waited for between the batches, and each result and batch is dropped while others are queued."""
    classifier = vis4mer.load(model(format), device="cuda", precision="fp32")
    encode = classifier.stages.runners["encoder"]
    batches = [inputs(classifier.model, "encoder", 1 + seed % 5, seed) for seed in range(100)]
    alone = [on_host(encode(batch)) for batch in batches]
    queued = []
    for batch in batches:
        encode(batch)  # its result's memory is reused at once
        queued.append(encode(DeviceArray.upload(batch, GPU)))
    stream_of(GPU).synchronize()
    for result, expected in zip(queued, alone, strict=True):
        np.testing.assert_allclose(on_host(result), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_the_classifier_agrees_with_the_cpu(
    format: str, model: Callable[[str], Path], checkpoint: Path, movie: Path
) -> None:
    options: dict[str, Any] = {"stride": 1.0, "batch_size": 5, "video_decoder": "pyav"}
    expected = vis4mer.load(checkpoint, device="cpu", precision="fp32")(movie, **options)
    actual = vis4mer.load(model(format), device="auto", precision="fp32")(movie, **options)
    assert (actual.device, actual.device_reason) == ("cuda:0", "the first GPU")
    assert actual.label == expected.label
    for name, head in expected.heads.items():
        got = actual.heads[name]
        assert got.label == head.label
        assert got.value == pytest.approx(head.value, abs=1e-3)
        assert got.probabilities == pytest.approx(head.probabilities, abs=1e-3)


@pytest.mark.parametrize("format", ["onnx", "torchscript", "pt2"])
def test_a_bundle_passes_its_own_comparison_on_the_gpu(format: str, model: Callable[[str], Path]) -> None:
    check_bundle(Bundle.open(model(format)), GPU)


def test_a_checkpoint_in_bf16_stays_close(checkpoint: Path) -> None:
    in_fp32, in_bf16 = (
        vis4mer.load(checkpoint, device=device, precision=precision).stages.runners["encoder"]
        for device, precision in ((CPU, "fp32"), (GPU, "bf16"))
    )
    batch = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    assert error(on_host(in_bf16(batch)), on_host(in_fp32(batch))) <= PARITY_TOLERANCES["bf16"]
