from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from vis4mer.cli.export import export
from vis4mer.errors import ExportError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.runtime.bundle import Bundle
from vis4mer_export import exporter, verify

ORIGINAL = Path(__file__).parents[1] / "resources" / "original" / "lvu-small"


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exporter.export_onnx(checkpoint, tmp_path_factory.mktemp("export") / "bundle")


def session(bundle: Bundle, graph: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundle.read(bundle.file_of(graph)), providers=["CPUExecutionProvider"])


def test_names_types_and_axes(bundle: Bundle) -> None:
    interfaces = {}
    for graph in bundle.graphs:
        values = [*session(bundle, graph).get_inputs(), *session(bundle, graph).get_outputs()]
        interfaces[graph] = [(v.name, v.type, v.shape[1:], isinstance(v.shape[0], str)) for v in values]
    assert interfaces == {
        "encoder": [
            ("frames", "tensor(uint8)", [64, 64, 3], True),
            ("tokens", "tensor(float)", [17, 64], True),
        ],
        "scene": [("features", "tensor(float)", [85, 64], True), ("logits", "tensor(float)", [3], True)],
        "likes": [("features", "tensor(float)", [85, 64], True), ("logits", "tensor(float)", [1], True)],
    }


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_values_at_several_batch_sizes(bundle: Bundle, checkpoint: Path, batch: int) -> None:
    model = load_checkpoint(checkpoint)
    generator = torch.Generator().manual_seed(batch)
    frames = torch.randint(0, 256, (batch, 64, 64, 3), dtype=torch.uint8, generator=generator)
    features = torch.randn(batch, 85, 64, generator=generator)
    with torch.inference_mode():
        expected = {"encoder": model.encode(frames), **{name: model(features, name) for name in model.heads}}
    for graph, values in expected.items():
        inputs = {"frames": frames.numpy()} if graph == "encoder" else {"features": features.numpy()}
        (actual,) = session(bundle, graph).run(None, inputs)
        error = np.linalg.norm(actual - values.numpy()) / np.linalg.norm(values.numpy())
        assert error <= 1e-5, graph


def test_graphs_use_neither_dft_nor_complex_numbers(bundle: Bundle) -> None:
    for graph in ("scene", "likes"):
        model = onnx.load_from_string(bundle.read(bundle.file_of(graph)))
        assert not {"DFT", "STFT"} & {node.op_type for node in model.graph.node}
        types = {tensor.data_type for tensor in model.graph.initializer}
        assert not types & {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
        assert model.opset_import[0].version >= 18


def test_manifest_says_what_was_measured(bundle: Bundle) -> None:
    assert set(bundle.parity) == {"encoder", "scene", "likes"}
    assert all(0 <= report["relative_l2"] <= report["tolerance"] for report in bundle.parity.values())
    assert bundle.tools["torch"] == torch.__version__.partition("+")[0]
    assert {report["long_convolution"] for report in bundle.lowering.values()} == {"matmul_dft"}


def test_published_checkpoint_becomes_a_head_with_its_recorded_logits(tmp_path: Path) -> None:
    result = exporter.export_onnx(ORIGINAL / "checkpoint.pt", tmp_path / "bundle")
    recorded = load_file(ORIGINAL / "expected.safetensors")
    (logits,) = session(result, "decoder").run(None, {"features": recorded["input_1182"].numpy()})
    expected = recorded["logits_1182"].numpy()
    assert np.linalg.norm(logits - expected) / np.linalg.norm(expected) <= 1e-5
    assert result.model.encoder is None


def test_a_graph_that_differs_leaves_no_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporter.freeze

    def off_by_a_little(decoder: object, length: int) -> torch.nn.Module:
        frozen = original(decoder, length)  # type: ignore[arg-type]
        with torch.no_grad():
            frozen.output.bias += 1e-2  # type: ignore[union-attr,operator]
        return frozen

    monkeypatch.setattr(exporter, "freeze", off_by_a_little)
    with pytest.raises(ExportError, match=r"graph='scene': relative error .* exceeds 1e-04"):
        exporter.export_onnx(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_not_within_tolerance(tmp_path: Path, checkpoint: Path, bundle: Bundle) -> None:
    model = load_checkpoint(checkpoint)
    features = torch.full((3, 85, 64), torch.nan)
    path = bundle.path / bundle.file_of("scene")
    with pytest.raises(ExportError, match="relative error nan"):
        verify.check_parity("scene", model.head("scene"), path, features)


def test_command_line(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(tmp_path / "bundle")]
    result = CliRunner().invoke(export, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert Bundle.open(tmp_path / "bundle").format == "onnx"
    assert "encoder.onnx" in result.output
