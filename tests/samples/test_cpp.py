"""The C++ sample computes what Python computes, and runs nothing but what was exported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.models.vis4mer import Vis4mer
from vis4mer_export.exporter import export_model
from vis4mer_export.options import ExportOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"),
]

FRAMES = 5
HEIGHT, WIDTH = 64, 64
SUFFIX = {"torchscript": "ts", "pt2": "pt2"}


@pytest.fixture(scope="module")
def program(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("build")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    for command in (
        ["cmake", *generator, "-S", samples / "cpp", "-B", build, "-D", f"Python={sys.executable}"],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "vis4mer_logits"


@pytest.fixture(scope="module")
def model() -> Vis4mer:
    torch.manual_seed(0)
    decoder = DecoderConfig(d_input=64, l_max=17 * FRAMES, d_output=3, d_model=16, n_layers=2, d_state=8)
    config = ModelConfig(
        heads={"scene": HeadConfig(decoder, labels=('a "quoted" one', "b", "c"))},
        encoder=EncoderConfig("test_vit", 17, 64),
        preprocessing=Preprocessing(height=HEIGHT, width=WIDTH, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        windows=WindowConfig(seconds=float(FRAMES)),
    )
    return Vis4mer(config).eval()


@pytest.fixture(scope="module", params=["torchscript", "pt2"])
def bundle(request: pytest.FixtureRequest, model: Vis4mer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundle") / request.param
    return export_model(model, output, ExportOptions(request.param)).path


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that the test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / bundle.name))


def logits(program: Path, bundle: Path, raw: Path, head: str = "scene") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program, bundle, raw, head], capture_output=True, text=True)


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """Returns the one line on stderr of a run that failed and printed nothing."""
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def write_frames(path: Path, n: int) -> np.ndarray:
    frames = np.random.default_rng(n).integers(0, 256, (n, HEIGHT, WIDTH, 3), dtype=np.uint8)
    path.write_bytes(frames.tobytes())
    return frames


@pytest.mark.parametrize("n", [1, FRAMES - 2, FRAMES])
def test_logits_are_those_of_the_model_in_python(
    program: Path, bundle: Path, model: Vis4mer, tmp_path: Path, n: int
) -> None:
    frames = write_frames(tmp_path / "frames.rgb", n)
    done = logits(program, bundle, tmp_path / "frames.rgb")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    with torch.inference_mode():
        tokens = model.encode(torch.from_numpy(frames))
        window = torch.cat([tokens, torch.zeros(FRAMES - n, *tokens.shape[1:])])
        expected = model(window.reshape(1, -1, tokens.shape[-1]), "scene")[0].numpy()
    actual = np.array(line.split(), dtype=np.float64)
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("graph", ["encoder", "scene"])
def test_a_flipped_bit_is_refused(program: Path, copy: Path, tmp_path: Path, graph: str) -> None:
    file = copy / f"{graph}.{SUFFIX[copy.name]}"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    write_frames(tmp_path / "frames.rgb", 1)
    assert f"{file}: is not the file" in refusal(logits(program, copy, tmp_path / "frames.rgb"))


def test_a_missing_file_is_named(program: Path, copy: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.rgb", 1)
    assert "interface/nobody/inputs/0" in refusal(logits(program, copy, tmp_path / "frames.rgb", "nobody"))
    file = copy / f"scene.{SUFFIX[copy.name]}"
    file.unlink()
    assert f"{file}: cannot be read" in refusal(logits(program, copy, tmp_path / "frames.rgb"))
    (copy / "manifest.json").unlink()
    assert "manifest.json: cannot be read" in refusal(logits(program, copy, tmp_path / "frames.rgb"))


@pytest.mark.parametrize("size", [0, HEIGHT * WIDTH * 3 + 1, HEIGHT * WIDTH * 3 * (FRAMES + 1)])
def test_raw_files_of_another_size_are_refused(program: Path, bundle: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "frames.rgb").write_bytes(bytes(size))
    assert f"has {size} bytes" in refusal(logits(program, bundle, tmp_path / "frames.rgb"))


def test_bundles_of_other_formats_are_refused(program: Path, samples: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.rgb", 1)
    line = refusal(logits(program, samples / "bundle", tmp_path / "frames.rgb", "visitor"))
    assert "format=onnx: must be torchscript or pt2" in line


def manifest_with(**changes: object) -> str:
    """Returns a manifest that holds only interfaces, with changes to the encoder's input."""
    frames = {"name": "frames", "dtype": "uint8", "axes": ["batch", 64, 64, 3]} | changes
    tokens = {"name": "tokens", "dtype": "float32", "axes": ["batch", 17, 64]}
    features = {"name": "features", "dtype": "float32", "axes": ["batch", 85, 64]}
    interface = {"encoder": {"inputs": [frames], "outputs": [tokens]}, "scene": {"inputs": [features]}}
    return json.dumps({"schema_version": 2, "format": "pt2", "interface": interface})


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("", "is not JSON"),
        ('{"schema_version": 2, "format": ', "is not JSON"),
        ('{"schema_version": 1, "format": "pt2"}', "schema_version=1: must be 2 or 3; export the bundle again"),
        (
            '{"schema_version": 2, "format": "pt2", "interface": {}, "tools": []}',
            "no interface/encoder/inputs/0/axes/0",
        ),
        (manifest_with(axes=[1, 64, 64, 3]), "interface/encoder/inputs/0: axis 0 is 1, but must be batch"),
        (manifest_with(axes=["batch", "height", 64, 3]), "inputs/0/axes/1=height: must be a size"),
        (manifest_with(dtype="float32"), "interface/encoder/inputs/0: dtype=float32: must be uint8"),
    ],
)
def test_malformed_manifests_are_refused(program: Path, tmp_path: Path, manifest: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    assert reason in refusal(logits(program, tmp_path, tmp_path / "frames.rgb"))
