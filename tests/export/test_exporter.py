import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch._inductor.runtime.cache_dir_utils import cache_dir

import vis4mer
from vis4mer.cli.main import main
from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig, WindowConfig
from vis4mer.devices.device import CPU
from vis4mer.errors import BundleError, ExportError, VideoError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.cases import CASES_FILE, Cases
from vis4mer.runtime.manifest import FileRecord, Precision, read_manifest, write_manifest
from vis4mer.runtime.meaning import not_compared
from vis4mer.runtime.parity import ParityError, check_bundle
from vis4mer.video.reader import open_video
from vis4mer_export import exporter
from vis4mer_export.exporter import export_model
from vis4mer_export.freeze import Frozen
from vis4mer_export.options import ExportOptions
from vis4mer_export.targets.base import Built, Obstacle
from vis4mer_export.targets.onnx import OnnxTarget

ORIGINAL = Path(__file__).parents[1] / "resources" / "original" / "lvu-small"


@pytest.fixture(scope="session")
def exported(
    checkpoint: Path, movie: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Precision], Bundle]:
    """Bundles of the small model, each made once."""
    made: dict[tuple[str, Precision], Bundle] = {}

    def export(format: str, precision: Precision = "fp32") -> Bundle:
        if (format, precision) not in made:
            output = tmp_path_factory.mktemp("export") / "bundle"
            options = ExportOptions(format, precision, unverified=(format, precision) == ("onnx", "bf16"))
            made[format, precision] = export_model(load_checkpoint(checkpoint), output, options, movie=movie)
        return made[format, precision]

    return export


def session(bundle: Bundle, graph: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundle.read(bundle.file_of(graph)), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("format", ["onnx", "torchscript", "pt2"])
def test_every_target_computes_the_model_at_any_batch_size(
    exported: Callable[..., Bundle], checkpoint: Path, format: str, batch: int
) -> None:
    model, bundle = load_checkpoint(checkpoint), exported(format)
    generator = torch.Generator().manual_seed(batch)
    frames = torch.randint(0, 256, (batch, 64, 64, 3), dtype=torch.uint8, generator=generator)
    features = torch.randn(batch, 85, 64, generator=generator)
    with torch.inference_mode():
        expected = {"encoder": model.encode(frames), **{name: model(features, name) for name in model.heads}}
    for graph, values in expected.items():
        actual = bundle.open_graph(graph, CPU)((frames if graph == "encoder" else features).numpy())
        assert actual.dtype == np.float32
        error = np.linalg.norm(actual - values.numpy()) / np.linalg.norm(values.numpy())
        assert error <= 1e-5, graph


def test_a_package_names_no_folder_of_the_machine_that_built_it(exported: Callable[..., Bundle]) -> None:
    bundle = exported("pt2")
    for graph in bundle.graphs:
        with zipfile.ZipFile(io.BytesIO(bundle.read(bundle.file_of(graph)))) as package:
            files = {name: package.read(name) for name in package.namelist()}
        assert any(name.endswith(".so") for name in files)
        for folder in (cache_dir(), str(Path(torch.__file__).parent), str(Path.cwd())):
            assert [name for name, data in files.items() if folder.encode() in data] == [], folder


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_half_precision_is_smaller_and_verified(
    exported: Callable[..., Bundle], format: str, precision: Precision
) -> None:
    half, full = exported(format, precision), exported(format)
    assert half.files[half.file_of("encoder")].bytes < 0.75 * full.files[full.file_of("encoder")].bytes
    for report in half.parity.values():
        assert 1e-5 < report["relative_l2"] <= report["tolerance"] == 2e-2
    assert half.parity["scene"]["same_label"] is True
    assert half.parity["encoder"]["same_label"] is half.parity["likes"]["same_label"] is None


def test_onnx_names_types_and_axes(exported: Callable[..., Bundle]) -> None:
    bundle, interfaces = exported("onnx"), {}
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
    assert {graph: str(interface) for graph, interface in bundle.interface.items()} == {
        "encoder": "(frames uint8[batch, 64, 64, 3]) -> (tokens float32[batch, 17, 64])",
        "scene": "(features float32[batch, 85, 64]) -> (logits float32[batch, 3])",
        "likes": "(features float32[batch, 85, 64]) -> (logits float32[batch, 1])",
    }


def test_onnx_uses_neither_dft_nor_complex_numbers(exported: Callable[..., Bundle]) -> None:
    for graph in ("scene", "likes"):
        model = onnx.load_from_string(exported("onnx").read(f"{graph}.onnx"))
        onnx.checker.check_model(model, full_check=True)
        assert not {"DFT", "STFT"} & {node.op_type for node in model.graph.node}
        types = {tensor.data_type for tensor in model.graph.initializer}
        assert not types & {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
        assert model.opset_import[0].version >= 18


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_graphs_name_no_folder_of_the_machine_that_made_them(exported: Callable[..., Bundle], format: str) -> None:
    bundle = exported(format)
    places = [str(Path(module.__file__).parent).encode() for module in (vis4mer, torch) if module.__file__]
    for name in bundle.files:
        assert not [place for place in places if place in bundle.read(name)], name


def test_onnx_products_are_typed_in_half(exported: Callable[..., Bundle]) -> None:
    for precision, elem_type in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        model = onnx.load_from_string(exported("onnx", precision).read("encoder.onnx"))
        types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
        for node in model.graph.node:
            if node.op_type in ("MatMul", "Gemm", "Softmax"):
                assert types[node.output[0]] == elem_type, node.name
            if node.op_type == "LayerNormalization":
                assert types.get(node.output[0], onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT, node.name


def test_weights_beyond_the_limit_lie_beside_the_graph(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vis4mer_export.targets.onnx._LARGEST_FILE_BYTES", 1 << 20)
    bundle = export_model(load_checkpoint(checkpoint), tmp_path / "bundle", ExportOptions("onnx"))
    assert "encoder.onnx.data" in bundle.files
    assert bundle.files["encoder.onnx"].bytes < 1 << 20 < bundle.files["encoder.onnx.data"].bytes
    check_bundle(bundle, CPU)
    data = bundle.path / "encoder.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\x55")
    with pytest.raises(BundleError, match=r"encoder\.onnx\.data"):
        vis4mer.load(bundle.path)


def test_manifest_records_parity_lowerings_and_tools(exported: Callable[..., Bundle]) -> None:
    bundle = exported("onnx")
    for graph, kinds in (
        ("encoder", ["random", "random", "movie", "movie"]),
        ("scene", ["random", "random", "static", "movie"]),
    ):
        report = bundle.parity[graph]
        assert report["kinds"] == kinds
        assert report["batch_sizes"] == [1, len(kinds)]
        assert 0 <= report["relative_l2"] <= report["tolerance"] == 1e-4
    blocks = bundle.lowering["scene"]["blocks"]
    assert bundle.lowering["scene"]["length"] == 85
    assert [block["lowering"] for block in blocks] == ["blocked_toeplitz"] * 3
    assert all(block["relative_l2"] <= 1e-5 and "fastest" in block["reason"] for block in blocks)
    assert bundle.tools["torch"] == torch.__version__.partition("+")[0]


def test_another_window_length(checkpoint: Path, movie: Path, tmp_path: Path) -> None:
    model = load_checkpoint(checkpoint)
    bundle = export_model(model, tmp_path / "bundle", ExportOptions("onnx", length=7 * 17), movie=movie)
    assert bundle.model.window_frames == 7
    assert session(bundle, "scene").get_inputs()[0].shape[1] == 119
    prediction = vis4mer.load(bundle.path)(movie)
    assert prediction.windows[0].end - prediction.windows[0].start == pytest.approx(7)


def test_a_model_of_samples_of_the_whole_movie_is_not_exported(tmp_path: Path) -> None:
    head = HeadConfig(DecoderConfig(64, 68, 2, d_model=16, n_layers=2, d_state=8))
    model = Vis4mer(ModelConfig({"scene": head}, encoder=None, windows=WindowConfig(samples=4)))
    with pytest.raises(ExportError, match=r"samples=4: .* 'vis4mer eval' evaluates it"):
        export_model(model, tmp_path / "bundle", ExportOptions("onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("length", "message"),
    [(120, "to l_max=119"), (4, r"must be from 2\*\*n_layers=8"), (100, "multiple of the encoder's 17")],
)
def test_lengths_that_do_not_fit(checkpoint: Path, tmp_path: Path, length: int, message: str) -> None:
    with pytest.raises(ExportError, match=f"length={length}: .*{message}"):
        export_model(load_checkpoint(checkpoint), tmp_path / "bundle", ExportOptions("onnx", length=length))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_published_checkpoint_becomes_a_head_with_its_recorded_logits(tmp_path: Path, format: str) -> None:
    bundle = export_model(load_checkpoint(ORIGINAL / "checkpoint.pt"), tmp_path / "bundle", ExportOptions(format))
    recorded = load_file(ORIGINAL / "expected.safetensors")
    logits = bundle.open_graph("decoder", CPU)(recorded["input_1182"].numpy())
    expected = recorded["logits_1182"].numpy()
    assert np.linalg.norm(logits - expected) / np.linalg.norm(expected) <= 1e-5
    assert bundle.model.encoder is None
    assert check_bundle(bundle, CPU)["decoder"].kinds == ("random", "random", "static")


@pytest.mark.parametrize("format", ["onnx", "torchscript", "pt2"])
def test_movies_run_on_every_target(
    exported: Callable[..., Bundle], checkpoint: Path, movie: Path, format: str
) -> None:
    expected, actual = vis4mer.load(checkpoint, "cpu", "fp32")(movie), vis4mer.load(exported(format).path, "cpu")(movie)
    assert len(actual.windows) == len(expected.windows)
    for ours, theirs in zip(actual.windows, expected.windows, strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)


def test_a_graph_that_differs_names_the_stage_and_leaves_no_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporter.freeze

    def damaged(*arguments: Any) -> Frozen:
        frozen = original(*arguments)
        frozen.module.blocks[1].reduce.weight.data *= 1.1  # type: ignore[union-attr,index]
        return frozen

    monkeypatch.setattr(exporter, "freeze", damaged)
    message = r"graph='scene': relative error .* exceeds 1e-04 on a \w+ input.*stage blocks\.1 drifted to .*nothing"
    with pytest.raises(ParityError, match=message):
        export_model(load_checkpoint(checkpoint), tmp_path / "bundle", ExportOptions("onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_output_is_nan_is_not_exported(checkpoint: Path, tmp_path: Path) -> None:
    model = load_checkpoint(checkpoint)
    model.head("scene").output.bias.data.fill_(torch.nan)
    with pytest.raises(ExportError, match="graph='scene': the model's own output is NaN"):
        export_model(model, tmp_path / "bundle", ExportOptions("onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_movie_that_cannot_be_read_is_named_and_leaves_no_bundle(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(VideoError, match=r"film\.mp4"):
        vis4mer.export(checkpoint, tmp_path / "bundle", movie=tmp_path / "film.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_full_disk_is_one_line(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vis4mer_export.targets.onnx.write_onnx", fail)
    with pytest.raises(BundleError, match=r"output='.*bundle': cannot be written: No space left on device; free some"):
        export_model(load_checkpoint(checkpoint), tmp_path / "bundle", ExportOptions("onnx"))
    assert list(tmp_path.iterdir()) == []


def test_verify_repeats_the_comparison(exported: Callable[..., Bundle]) -> None:
    bundle = exported("onnx")
    results = check_bundle(bundle, CPU)
    assert {name: result.relative_l2 for name, result in results.items()} == pytest.approx(
        {name: report["relative_l2"] for name, report in bundle.parity.items()}
    )


def test_verify_detects_another_model_behind_valid_digests(
    exported: Callable[..., Bundle], checkpoint: Path, tmp_path: Path
) -> None:
    """Digests show that files are the exported ones; only the cases show that they compute the right thing."""
    model = load_checkpoint(checkpoint)
    model.head("scene").output.bias.data += 1
    forged = export_model(model, tmp_path / "bundle", ExportOptions("onnx"))
    data = exported("onnx").read(CASES_FILE)
    (forged.path / CASES_FILE).write_bytes(data)
    manifest = read_manifest(forged.path)
    record = FileRecord(hashlib.sha256(data).hexdigest(), len(data))
    write_manifest(dataclasses.replace(manifest, files={**manifest.files, CASES_FILE: record}), forged.path)
    with pytest.raises(ParityError, match="graph='scene': relative error"):
        check_bundle(Bundle.open(forged.path), CPU)


@pytest.mark.parametrize("limit", [1 << 18, 1000])
def test_the_cases_hold_the_pictures_that_were_resized_and_the_answers(
    checkpoint: Path, movie: Path, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vis4mer_export.cases._MOST_PIXELS", limit)
    model = load_checkpoint(checkpoint)
    bundle = export_model(model, tmp_path / "bundle", ExportOptions("onnx"), movie=movie)
    cases = Cases.from_bytes(bundle.read(CASES_FILE))
    assert cases.model == bundle.model
    pictures = cases.pictures
    assert pictures is not None
    assert pictures.shape == ((2, 360, 640, 3) if limit > 1000 else (2, 23, 42, 3))
    known = cases.of("encoder", bundle.interface["encoder"])
    # The mean colour of a picture does not change when all of it is averaged into fewer pixels.
    for picture, resized in zip(pictures, known.inputs[2:], strict=True):
        np.testing.assert_allclose(picture.mean(axis=(0, 1)), resized.mean(axis=(0, 1)), atol=0.5)
    if limit > 1000:
        with open_video(movie, model.config.preprocessing) as reader:
            frames = next(iter(reader)).frames
        np.testing.assert_array_equal(known.inputs[2:], frames[[0, 2]])
    scene = cases.of("scene", bundle.interface["scene"])
    with torch.inference_mode():
        answers = model(torch.from_numpy(scene.inputs), "scene").argmax(dim=-1).tolist()
    assert scene.labels == tuple("abc"[answer] for answer in answers)
    assert cases.of("likes", bundle.interface["likes"]).labels is None
    assert not_compared(bundle) == ()


def test_without_a_movie_there_are_no_pictures(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export_model(load_checkpoint(checkpoint), tmp_path / "bundle", ExportOptions("onnx"))
    assert not_compared(bundle) == ("resizing, because these cases hold no pictures of a movie",)


def test_graphs_that_cannot_run_here_are_refused_by_default(checkpoint: Path, tmp_path: Path) -> None:
    message = (
        r"format='onnx': this machine cannot execute onnx graphs in bf16 \(ONNX Runtime has no bf16 products on the "
        r"CPU\); export with --precision fp16 or fp32, .*, or pass --unverified"
    )
    with pytest.raises(ExportError, match=message):
        vis4mer.export(checkpoint, tmp_path / "bundle", precision="bf16")
    with pytest.raises(ExportError, match=message):
        export_model(load_checkpoint(checkpoint), tmp_path / "bundle", ExportOptions("onnx", "bf16"))
    assert list(tmp_path.iterdir()) == []


def test_graphs_that_did_not_run_as_written_are_named(exported: Callable[..., Bundle]) -> None:
    bundle = exported("onnx", "bf16")
    reason = "ONNX Runtime has no bf16 products on the CPU"
    for report in bundle.parity.values():
        assert report["ran"] == "the same graph in fp32, rounded to bf16 after every operator"
        assert report["reason"] == reason
    assert all("ran" not in report for report in exported("onnx", "fp16").parity.values())
    words = CliRunner().invoke(main, ["inspect", str(bundle.path)]).stdout
    assert f"encoder did not run as written on the machine that exported it: {reason}" in words
    refused = CliRunner().invoke(main, ["verify", str(bundle.path), "--device", "cpu"])
    assert refused.exit_code == 1
    assert f"its export did not run it either: {reason}" in refused.stderr


class _Unrunnable(OnnxTarget):
    """A target that finds out only by building that the graph cannot run here."""

    def build(self, *arguments: Any) -> Built:
        return dataclasses.replace(super().build(*arguments), ran="a stand-in", obstacle=Obstacle("no GPU", "buy one"))


def test_an_obstacle_that_building_reveals_is_refused_too(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vis4mer_export.options.registry.target", lambda name: _Unrunnable())
    model = load_checkpoint(checkpoint)
    with pytest.raises(ExportError, match=r"cannot execute onnx graphs in fp32 \(no GPU\); buy one, or pass --unver"):
        export_model(model, tmp_path / "bundle", ExportOptions("onnx"))
    assert list(tmp_path.iterdir()) == []
    bundle = export_model(model, tmp_path / "bundle", ExportOptions("onnx", unverified=True))
    assert {report["ran"] for report in bundle.parity.values()} == {"a stand-in"}


def test_a_bundle_is_kept_unless_force_is_given(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    first = export_model(load_checkpoint(checkpoint), output, ExportOptions("torchscript"))
    with pytest.raises(BundleError, match=r"holds a bundle already; .*--force"):
        export_model(load_checkpoint(checkpoint), output, ExportOptions("onnx"))
    with pytest.raises(BundleError, match=r"holds a bundle already; .*--force"):
        vis4mer.export("no checkpoint, which would be the second error", output)
    assert Bundle.open(output) == first
    arguments = ["--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(output)]
    assert CliRunner().invoke(main, ["export", *arguments]).exit_code == 1
    assert CliRunner().invoke(main, ["export", *arguments, "--force"]).exit_code == 0
    assert Bundle.open(output).format == "onnx"


def test_a_movie_for_a_model_without_encoder_is_refused(tmp_path: Path, movie: Path) -> None:
    arguments = ["--checkpoint", str(ORIGINAL / "checkpoint.pt"), "--format", "onnx", "--movie", str(movie)]
    result = CliRunner().invoke(main, ["export", *arguments, "--output", str(tmp_path / "bundle")])
    assert result.exit_code == 1
    assert f"--movie='{movie}': the model has no encoder, so it takes features" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "5000"], "error: --length=5000: must be from 2**n_layers=8 to l_max=119 tokens"),
        (["--encoder", "test_vit"], "error: --encoder='test_vit': the checkpoint has its own"),
        (["--labels", "x,y"], "error: --labels='x,y': the checkpoint has several heads"),
        (["--head", "scene={checkpoint}"], "error: --head='scene': "),
        (["--head", "other={missing}"], "error: --head='other': checkpoint='{missing}': no such file or folder"),
    ],
)
def test_errors_name_options_as_typed(checkpoint: Path, tmp_path: Path, options: list[str], message: str) -> None:
    names = {"checkpoint": str(checkpoint), "missing": str(tmp_path / "missing")}
    arguments = ["--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, ["export", *arguments, *(option.format(**names) for option in options)])
    assert result.exit_code == 1
    assert message.format(**names) in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_command_line(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    output = tmp_path / "bundle"
    checkpoint = checkpoint.absolute()
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "--checkpoint", str(checkpoint), "--format", format, "--output", "bundle"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "encoder." in result.output
    assert result.stdout.endswith("wrote bundle\n")
    assert Bundle.open(output).format == format
    verified = CliRunner().invoke(main, ["verify", str(output), "--device", "cpu"], catch_exceptions=False)
    assert verified.exit_code == 0
    assert "verified on cpu" in verified.output
    (output / CASES_FILE).write_bytes(b"")
    broken = CliRunner().invoke(main, ["verify", str(output)], catch_exceptions=False)
    assert broken.exit_code == 1
    assert broken.output.count("\n") == 1


def test_a_published_checkpoint_classifies_a_movie(tmp_path: Path, movie: Path) -> None:
    """Its state dict holds a decoder only; the command adds an encoder."""
    labels = [f"scene {i}" for i in range(10)]
    whole = ("--encoder", "test_vit", "--encoder-weights", "random", "--labels", ", ".join(labels))
    paths = ("--checkpoint", str(ORIGINAL / "checkpoint.pt"), "--output", str(tmp_path / "bundle"))
    CliRunner().invoke(main, ["export", *paths, "--format", "torchscript", *whole], catch_exceptions=False)
    prediction = vis4mer.load(tmp_path / "bundle", device="cpu")(movie)
    assert set(prediction.probabilities) == set(labels)
    assert prediction.windows[0].end == 6  # l_max = 6 x 197 tokens


def test_encoder_weights_require_an_encoder(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(tmp_path / "x")]
    result = CliRunner().invoke(main, ["export", *arguments, "--encoder-weights", "weights.pt"])
    assert result.exit_code == 2
    assert "requires --encoder" in result.output


@pytest.mark.parametrize("value", ["scene", "=x", "a="])
def test_heads_must_be_named(checkpoint: Path, tmp_path: Path, value: str) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(tmp_path / "x"), "--head", value]
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == 2
    assert "NAME=CHECKPOINT" in result.output
