"""The C++ library refuses the bundles that Python refuses, in one line, and opens those that Python opens."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.samples.cpp_build import CppBuild
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.errors import BundleError
from vis4mer.runtime.bundle import Bundle, BundleWriter
from vis4mer.runtime.manifest import manifest_digest

pytestmark = pytest.mark.slow

BUNDLES = Path(__file__).parents[1] / "resources" / "bundles"
LABELS = ("é", "\U0001f600\x7f\u2028", '\t"\\\x01/')
MODEL = ModelConfig(
    heads={"mood": HeadConfig(DecoderConfig(d_input=4, l_max=8, d_output=3, d_model=4, n_layers=1), labels=LABELS)},
    encoder=EncoderConfig(name="tiny", tokens=2, features=4),
    preprocessing=Preprocessing(fps=2.0, height=8, width=8),
    windows=WindowConfig(seconds=2.0),
)
Values = dict[str, Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.path("encoder.onnx").write_bytes(b"encoder graph")
        writer.path("encoder.onnx.data").write_bytes(b"weights")
        writer.path("mood.onnx").write_bytes(b"head graph")
        return writer.commit(format="onnx", precision="fp32", model=MODEL).path


def edit(bundle: Path, change: Callable[[Values], object]) -> None:
    """Changes a manifest as its author could: with a digest that fits."""
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    if "digest" in values:
        values["digest"] = manifest_digest(values)
    path.write_text(json.dumps(values))


def opened(cpp: CppBuild, *bundles: Path) -> list[str]:
    """Returns a line for each bundle: what it is, or why it is refused."""
    done = cpp.run("api", "open", *bundles)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(bundles)
    return lines


def test_a_bundle_is_read(cpp: CppBuild, bundle: Path) -> None:
    assert opened(cpp, bundle) == ["onnx 4"]
    assert cpp.run("api", "labels", bundle).stdout == "".join(f"{label}\n" for label in LABELS)
    assert cpp.run("api", "verify", bundle).returncode == 0


def test_older_schemas_are_read(cpp: CppBuild) -> None:
    bundles = sorted(BUNDLES.iterdir())
    expected = [Bundle.open(bundle) for bundle in bundles]
    assert opened(cpp, *bundles) == [f"{bundle.format} {bundle.model.window_frames}" for bundle in expected]


def test_a_bundle_of_heads_alone_has_a_length_of_its_own(cpp: CppBuild, bundle: Path) -> None:
    def without_encoder(values: Values) -> None:
        values["model"]["encoder"] = None
        del values["interface"]["encoder"]
        values["interface"]["mood"]["inputs"][0]["axes"][1] = 6

    edit(bundle, without_encoder)
    assert Bundle.open(bundle).interface["mood"].input.axes == ("batch", 6, 4)
    assert opened(cpp, bundle) == ["onnx 0"]


def test_the_manifests_digest_covers_every_number_as_python_writes_it(cpp: CppBuild, bundle: Path) -> None:
    draw = random.Random(0)
    numbers = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300) for _ in range(5000)]
    numbers += [0.0, -0.0, 1e15, 1e16, 123456789012345680.0, 1e-4, 9.999e-5, 1e-5, 5e-324, 1.7976931348623157e308]
    numbers += [100.0, 0.1 + 0.2, 1e22, 1e23, 2.0**53, 4.35, 0.000123, float(2**63)]
    integers = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1]
    edit(
        bundle, lambda values: values["tools"].update(numbers=numbers, integers=integers, texts=[*LABELS, {}, [], None])
    )
    assert opened(cpp, bundle) == ["onnx 4"]


def set_value(*path: Any, to: Any) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = to

    return change


def drop(*path: Any) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


HEAD = ("model", "heads", "mood")
CHANGES = [
    (set_value("schema_version", to=4), "schema_version=4: this library reads versions 1, 2 and 3"),
    (set_value("schema_version", to=True), "schema_version=true"),
    (set_value("schema_version", to=3.0), "schema_version=3.0"),
    (drop("schema_version"), "schema_version=null"),
    (set_value("format", to="tflite"), 'format="tflite": must be one of onnx, torchscript, pt2, trt, trt-rtx'),
    (set_value("format", to=["onnx"]), "manifest.format"),
    (set_value("precision", to="fp7"), 'precision="fp7": must be one of fp32, fp16, bf16'),
    (drop("model"), 'key="model": the manifest\'s manifest lacks it'),
    (drop("files"), 'key="files"'),
    (set_value("files", to=[]), "files=[]: must be a JSON object"),
    (set_value("parity", to=1), "parity=1: must be a JSON object"),
    (drop("interface", "mood"), 'graph="mood": the manifest states no interface of it'),
    (set_value("interface", "mood", "outputs", to=[]), 'graph="mood": the manifest states the interface'),
    (set_value("interface", "encoder", "outputs", 0, "axes", to=["batch", 2.0, 4]), 'graph="encoder"'),
    (drop("files", "mood.onnx"), "the manifest must list exactly one file mood.*"),
    (set_value("files", "mood.ts", to={"sha256": "0" * 64, "bytes": 1}), "exactly one file mood.*"),
    (set_value("files", "../secret", to={"sha256": "0" * 64, "bytes": 1}), 'file="../secret": must be a plain name'),
    (set_value("files", ".hidden", to={"sha256": "0" * 64, "bytes": 1}), 'file=".hidden": must be a plain name'),
    (set_value("files", "a\nb", to={"sha256": "0" * 64, "bytes": 1}), 'file="a\\nb": must be a plain name'),
    (set_value("files", "manifest.json", to={"sha256": "0" * 64, "bytes": 1}), 'file="manifest.json"'),
    (set_value("files", "mood.onnx", to={"sha256": "x" * 64, "bytes": 1}), "digest or size of it is malformed"),
    (set_value("files", "mood.onnx", "bytes", to=-1), "digest or size of it is malformed"),
    (set_value("files", "mood.onnx", "bytes", to=True), "digest or size of it is malformed"),
    (set_value("files", "mood.onnx", to="x"), "digest or size of it is malformed"),
    (set_value("model", to=3), "model=3: must be a JSON object"),
    (set_value("model", "surprise", to=3), 'key="surprise": model has the keys heads, encoder'),
    (set_value("model", "heads", to={}), "heads={}: must be a JSON object of at least one head"),
    (set_value("model", "heads", "encoder", to={}), 'head="encoder": must start with a letter'),
    (set_value("model", "heads", "a/b", to={}), 'head="a/b": must start with a letter'),
    (drop(*HEAD, "decoder"), 'key="decoder"'),
    (set_value(*HEAD, "decoder", "d_output", to=0), "d_output=0: must be an integer from 1 to 1000000"),
    (set_value(*HEAD, "decoder", "l_max", to=True), "l_max=true: must be an integer"),
    (set_value(*HEAD, "decoder", "l_max", to=7), "mood.l_max=7: must hold the tokens of one window"),
    (set_value(*HEAD, "decoder", "d_input", to=5), "mood.d_input=5: must equal the encoder's features=4"),
    (set_value(*HEAD, "decoder", "n_layers", to=4), "mood.n_layers=4: must leave a token of a window"),
    (set_value(*HEAD, "task", to="detection"), 'task="detection": must be one of classification, regression'),
    (set_value(*HEAD, "task", to="regression"), "a regression must have one output and no labels"),
    (set_value(*HEAD, "labels", to=["a", "b"]), "must be d_output=3 distinct names"),
    (set_value(*HEAD, "labels", to=["a", "b", "a"]), "must be d_output=3 distinct names"),
    (set_value(*HEAD, "labels", to=["a", "b", 3]), "must be a list of strings"),
    (set_value("model", "encoder", "tokens", to=2.0), "encoder.tokens=2.0: must be an integer"),
    (set_value("model", "encoder", "frames", to=32), "frames=32: preprocessing.segments must be set"),
    (set_value("model", "preprocessing", "fps", to=0), "fps=0: must be positive, and at most 1000"),
    (set_value("model", "preprocessing", "fps", to="1"), 'fps="1": must be positive'),
    (set_value("model", "preprocessing", "height", to=8193), "height=8193: must be an integer from 1 to 8192"),
    (set_value("model", "preprocessing", "resize", to="pad"), 'resize="pad": must be one of stretch, crop'),
    (set_value("model", "preprocessing", "interpolation", to=None), "interpolation=null: must be one of area"),
    (set_value("model", "preprocessing", "mean", to=[0, 0]), "mean=[0,0]: must be three numbers"),
    (set_value("model", "preprocessing", "std", to=[1, 1, 0]), "std=[1,1,0]: must be three positive numbers"),
    (set_value("model", "preprocessing", "last_frame", to=0), "last_frame=0: must be true or false"),
    (set_value("model", "windows", "seconds", to=1e300), "mood.l_max=8: must hold the tokens of one window"),
    (set_value("model", "windows", "seconds", to=1e301), "seconds=1e+301: must be positive"),
    (set_value("model", "windows", "stride", to=-1), "stride=-1: must be positive"),
    (set_value("model", "windows", "samples", to=0), "samples=0: must be an integer"),
]  # fmt: skip


def test_manifests_that_break_a_rule_are_refused(cpp: CppBuild, bundle: Path, tmp_path: Path) -> None:
    copies = []
    for i, (change, _) in enumerate(CHANGES):
        copies.append(Path(shutil.copytree(bundle, tmp_path / str(i))))
        edit(copies[-1], change)
        with pytest.raises(BundleError):
            Bundle.open(copies[-1])
    for line, (_, message) in zip(opened(cpp, *copies), CHANGES, strict=True):
        assert line.startswith("BundleError: ")
        assert message in line


@pytest.mark.parametrize("size", [2**31, 2**64 - 1, 2**64])
def test_sizes_beyond_the_librarys_integers_are_refused(cpp: CppBuild, bundle: Path, size: int) -> None:
    edit(bundle, set_value(*HEAD, "decoder", "l_max", to=size))
    assert Bundle.open(bundle).model.heads["mood"].decoder.l_max == size
    assert opened(cpp, bundle)[0].startswith("BundleError: ")


TEXTS = {
    "empty": b"",
    "cut": b'{"schema_version": 3, "format": ',
    "list": b"[1]",
    "not UTF-8": b'{"schema_version": 3, "\xff": 1}',
    "half a surrogate pair": b'{"schema_version": 2, "format": "\\ud800"}',
    "deep": b'{"schema_version": 3, "a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "large": b'{"schema_version": 3, "a": "' + b" " * (16 << 20) + b'"}',
}


def test_files_that_are_no_manifest_are_refused(cpp: CppBuild, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in TEXTS]
    for folder in folders:
        folder.mkdir()
        (folder / "manifest.json").write_bytes(TEXTS[folder.name])
        with pytest.raises(BundleError):
            Bundle.open(folder)
    for line, name in zip(opened(cpp, *folders), TEXTS, strict=True):
        assert line.startswith('BundleError: file="')
        assert ("must be at most 16 MiB" if name == "large" else "is not a JSON object") in line


def test_an_edited_manifest_is_refused(cpp: CppBuild, bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "manifest.json").read_text().replace('"fps": 2.0', '"fps": 3.0')
    # Another version does not switch the check off, and neither does the digest's removal.
    older = text.replace('"schema_version": 3', '"schema_version": 2')
    without_digest = json.dumps({key: value for key, value in json.loads(text).items() if key != "digest"})
    folders = [tmp_path / str(i) for i in range(3)]
    for folder, edited in zip(folders, (text, older, without_digest), strict=True):
        folder.mkdir()
        (folder / "manifest.json").write_text(edited)
    for line in opened(cpp, *folders):
        assert "does not match its own digest, so it was altered" in line


def test_layout_of_the_manifest_does_not_matter(cpp: CppBuild, bundle: Path) -> None:
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items())), indent=7))
    assert opened(cpp, bundle) == ["onnx 4"]


@pytest.mark.parametrize("file", ["encoder.onnx", "encoder.onnx.data", "mood.onnx"])
def test_altered_files_are_refused(cpp: CppBuild, bundle: Path, file: str) -> None:
    data = (bundle / file).read_bytes()
    (bundle / file).write_bytes(data[:-1])
    assert f"has {len(data) - 1} bytes, but the manifest states {len(data)}; copy the bundle again" in cpp.refusal(
        "api", "verify", bundle
    )
    (bundle / file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert f'{file}": has sha256 ' in cpp.refusal("api", "verify", bundle)
    (bundle / file).unlink()
    assert f'{file}": is missing; copy the whole bundle' in cpp.refusal("api", "verify", bundle)
    (bundle / file).mkdir()
    assert f'{file}": is missing' in cpp.refusal("api", "verify", bundle)


def test_folders_without_manifest_are_refused(cpp: CppBuild, tmp_path: Path) -> None:
    (line,) = opened(cpp, tmp_path)
    assert (
        line == f'BundleError: bundle="{tmp_path}": holds no manifest.json; a bundle is a folder that vis4mer exports'
    )


def test_altered_graphs_do_not_reach_a_backend(cpp: CppBuild, bundle: Path) -> None:
    edit(bundle, set_value("format", to="torchscript"))
    (bundle / "encoder.onnx").write_bytes(b"ENCODER graph")
    assert "has sha256 " in cpp.refusal("api", "load", bundle, "cpu")


@pytest.mark.parametrize("format", ["torchscript", "pt2", "onnx"])
def test_graphs_that_a_backend_cannot_load_are_refused(cpp: CppBuild, bundle: Path, format: str) -> None:
    cpp.require(format)
    edit(bundle, set_value("format", to=format))
    runtime = "ONNX Runtime" if format == "onnx" else "LibTorch"
    assert f'BundleError: graph="encoder": {runtime} cannot load it' in cpp.refusal("api", "load", bundle, "cpu")


def test_formats_without_backend_are_refused(cpp: CppBuild, bundle: Path) -> None:
    edit(bundle, set_value("format", to="trt"))
    line = cpp.refusal("api", "load", bundle, "cuda" if "trt" in cpp.formats else "cpu")
    assert line.startswith('DeviceError: format="trt": this build runs ')


def test_models_without_windows_are_refused(cpp: CppBuild, samples: Path, tmp_path: Path) -> None:
    cpp.require("onnx")
    bundle = Path(shutil.copytree(samples / "bundle", tmp_path / "bundle"))
    edit(bundle, set_value("model", "windows", "samples", to=60))
    assert "the model takes samples of a whole movie" in cpp.refusal("api", "load", bundle, "cpu")


def test_heads_alone_cannot_classify(cpp: CppBuild, samples: Path, tmp_path: Path) -> None:
    cpp.require("onnx")
    bundle = Path(shutil.copytree(samples / "bundle", tmp_path / "bundle"))
    edit(bundle, set_value("model", "encoder", to=None))
    assert "the bundle holds heads only; export it with an encoder" in cpp.refusal("api", "load", bundle, "cpu")
    assert len(cpp.run("api", "run", bundle, "visitor", 1020 * 64, 2).stdout.split()) == 2


def test_a_graph_of_another_interface_is_refused(cpp: CppBuild, samples: Path, tmp_path: Path) -> None:
    cpp.require("onnx")
    bundle = Path(shutil.copytree(samples / "bundle", tmp_path / "bundle"))
    shutil.copy(bundle / "encoder.onnx", bundle / "visitor.onnx")

    def swap(values: Values) -> None:
        values["files"]["visitor.onnx"] = values["files"]["encoder.onnx"]

    edit(bundle, swap)
    assert 'BundleError: graph="visitor": its inputs and outputs are not those' in cpp.refusal(
        "api", "load", bundle, "cpu"
    )
