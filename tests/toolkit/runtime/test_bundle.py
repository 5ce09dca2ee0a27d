import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.errors import BundleError
from vis4mer.runtime.bundle import Bundle, BundleWriter

MODEL = ModelConfig(
    heads={"mood": HeadConfig(DecoderConfig(d_input=4, l_max=8, d_output=2, d_model=4, n_layers=1), labels=("a", "b"))},
    encoder=EncoderConfig(name="tiny", tokens=2, features=4),
    preprocessing=Preprocessing(fps=2.0, height=8, width=8),
    windows=WindowConfig(seconds=2.0),
)


def write(output: Path, encoder: bytes = b"encoder graph") -> Bundle:
    with BundleWriter(output) as writer:
        writer.path("encoder.onnx").write_bytes(encoder)
        writer.path("mood.onnx").write_bytes(b"head graph")
        return writer.commit(format="onnx", precision="fp32", model=MODEL, tools={"onnx": "1"}, parity={"mood": 1e-6})


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def edit_manifest(bundle: Path, **changes: Any) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.model == MODEL
    assert bundle.graphs == ("encoder", "mood")
    assert bundle.read(bundle.file_of("encoder")) == b"encoder graph"
    assert bundle.files["mood.onnx"].sha256 == hashlib.sha256(b"head graph").hexdigest()
    assert (bundle.format, bundle.precision, bundle.parity) == ("onnx", "fp32", {"mood": 1e-6})
    bundle.verify()
    assert names(tmp_path) == ["bundle"], "the staging directory is gone"


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    write(tmp_path / "bundle", encoder=b"a newer graph")
    assert Bundle.open(tmp_path / "bundle").read("encoder.onnx") == b"a newer graph"
    assert names(tmp_path) == ["bundle"]


def test_a_failed_export_leaves_the_older_bundle(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "bundle") as writer:
        writer.path("encoder.onnx").write_bytes(b"half")
        raise RuntimeError
    Bundle.open(tmp_path / "bundle").verify()
    assert names(tmp_path) == ["bundle"]


def test_a_bundle_without_a_graph_of_its_model_is_not_written(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.path("encoder.onnx").write_bytes(b"x")
        with pytest.raises(BundleError, match=r"mood\.\*"):
            writer.commit(format="onnx", precision="fp32", model=MODEL)
    assert names(tmp_path) == []


def test_what_is_not_a_bundle_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("photos", "file", "link"):
        with pytest.raises(BundleError, match="will not be overwritten"):
            write(tmp_path / name)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_a_file_that_is_no_part_of_the_bundle_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        write(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "notes.txt").read_text() == "mine"


def test_an_altered_file_is_never_handed_out(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    (bundle.path / "mood.onnx").write_bytes(b"HEAD graph")
    with pytest.raises(BundleError, match="sha256"):
        bundle.read("mood.onnx")
    with pytest.raises(BundleError, match="sha256"):
        bundle.verify()
    (bundle.path / "mood.onnx").write_bytes(b"head")
    with pytest.raises(BundleError, match="4 bytes where the manifest says 10"):
        bundle.read("mood.onnx")
    (bundle.path / "mood.onnx").unlink()
    with pytest.raises(BundleError, match="missing"):
        bundle.read("mood.onnx")
    os.mkfifo(bundle.path / "mood.onnx")
    with pytest.raises(BundleError, match="missing"):
        bundle.read("mood.onnx")


@pytest.mark.parametrize("name", ["../encoder.onnx", "/etc/passwd", "a/b", ".hidden", "", "a\nb", "manifest.json"])
def test_a_bundle_has_no_files_elsewhere(tmp_path: Path, name: str) -> None:
    bundle = write(tmp_path / "bundle")
    record = {"sha256": "0" * 64, "bytes": 1}
    files = {key: vars(value) for key, value in bundle.files.items()}
    edit_manifest(bundle.path, files=files | {name: record})
    with pytest.raises(BundleError, match="plain name"):
        Bundle.open(bundle.path)
    with BundleWriter(tmp_path / "other") as writer, pytest.raises(BundleError, match="plain name"):
        writer.path(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version=2"),
        ({"schema_version": None}, "schema_version=None"),
        ({"format": "pickle"}, "format='pickle'"),
        ({"format": ["onnx"]}, "format="),
        ({"precision": "int1"}, "precision='int1'"),
        ({"model": {}}, "model is invalid"),
        ({"model": []}, "model is invalid"),
        ({"files": {}}, r"encoder\.\*"),
        ({"files": []}, "must be a JSON object"),
        ({"parity": 3}, "must be a JSON object"),
        ({"files": {"encoder.onnx": {"sha256": "zz", "bytes": 1}}}, "digest or size"),
        ({"files": {"encoder.onnx": {"sha256": "0" * 64, "bytes": "1"}}}, "digest or size"),
    ],
)
def test_an_invalid_manifest_is_a_one_line_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bundle = write(tmp_path / "bundle")
    edit_manifest(bundle.path, **changes)
    with pytest.raises(BundleError, match=message) as error:
        Bundle.open(bundle.path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_a_one_line_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match="not a JSON object"):
        Bundle.open(tmp_path)


def test_a_directory_without_manifest_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="lacks 'format'"):
        (tmp_path / "manifest.json").write_text('{"schema_version": 1}')
        Bundle.open(tmp_path)


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = "import os, sys; from vis4mer.runtime.bundle import BundleWriter\n"
    code += "with BundleWriter(sys.argv[1]) as w: w.path('a.onnx').write_bytes(b'half'); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "bundle")], check=False)
    assert killed.returncode == -9
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".bundle.")
    with BundleWriter(tmp_path / "bundle"):
        assert not leftover.exists()
    assert list(tmp_path.iterdir()) == []
