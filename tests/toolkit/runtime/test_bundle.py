import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.devices.device import CPU
from vis4mer.errors import BundleError
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.bundle import Bundle, BundleWriter
from vis4mer.runtime.interface import graph_interfaces
from vis4mer.runtime.parity import check_bundle

BUNDLES = Path(__file__).parents[2] / "resources" / "bundles"
SCHEMA_1, SCHEMA_2 = BUNDLES / "schema-1", BUNDLES / "schema-2"

MODEL = ModelConfig(
    heads={"mood": HeadConfig(DecoderConfig(d_input=4, l_max=8, d_output=2, d_model=4, n_layers=1), labels=("a", "b"))},
    encoder=EncoderConfig(name="tiny", tokens=2, features=4),
    preprocessing=Preprocessing(fps=2.0, height=8, width=8),
    windows=WindowConfig(seconds=2.0),
)


def write(output: Path, encoder: bytes = b"encoder graph", *, force: bool = False) -> Bundle:
    with BundleWriter(output, force=force) as writer:
        writer.path("encoder.onnx").write_bytes(encoder)
        writer.path("mood.onnx").write_bytes(b"head graph")
        return writer.commit(format="onnx", precision="fp32", model=MODEL, tools={"onnx": "1"}, parity={"mood": 1e-6})


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def digest_of(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def edit_manifest(bundle: Path, **changes: Any) -> None:
    """Changes a manifest as its author could: with a digest that fits."""
    path = bundle / "manifest.json"
    values = json.loads(path.read_text()) | changes
    if values.pop("digest", None):
        values["digest"] = digest_of(values)
    path.write_text(json.dumps(values))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.model == MODEL
    assert bundle.graphs == ("encoder", "mood")
    assert bundle.read(bundle.file_of("encoder")) == b"encoder graph"
    assert bundle.files["mood.onnx"].sha256 == hashlib.sha256(b"head graph").hexdigest()
    assert (bundle.format, bundle.precision, bundle.parity) == ("onnx", "fp32", {"mood": 1e-6})
    assert bundle.interface == graph_interfaces(MODEL)
    bundle.verify()
    assert names(tmp_path) == ["bundle"], "the staging directory is gone"


def test_a_head_without_encoder_has_the_length_that_was_written(tmp_path: Path) -> None:
    decoders = dataclasses.replace(MODEL, encoder=None)
    interface = graph_interfaces(decoders, 6)
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.path("mood.onnx").write_bytes(b"y")
        bundle = writer.commit(format="onnx", precision="fp32", model=decoders, interface=interface)
    assert bundle.interface["mood"].input.axes == ("batch", 6, 4)
    assert bundle.read_graph("mood") == Graph("mood", interface["mood"], b"y")


def altered(graph: str, side: str, **changes: Any) -> dict[str, Any]:
    """The interfaces of MODEL in JSON, with one tensor changed."""
    interfaces = {name: interface.to_dict() for name, interface in graph_interfaces(MODEL).items()}
    interfaces[graph][side][0].update(changes)
    return interfaces


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        (altered("mood", "outputs", axes=["batch", 3]), r"states .*logits float32\[batch, 3\].* has .*\[batch, 2\]"),
        (altered("mood", "inputs", axes=["batch", 6, 4]), r"states .*\[batch, 6, 4\].* has .*\[batch, 8, 4\]"),
        (altered("mood", "inputs", axes=["batch"]), r"states .*\(features float32\[batch\]\)"),
        (altered("mood", "inputs", axes=["batch", "length", 4]), r"states .*\[batch, length, 4\]"),
        (altered("mood", "inputs", name="x"), r"states .*\(x float32"),
        (altered("encoder", "inputs", dtype="float32"), r"states .*\(frames float32"),
        (altered("encoder", "outputs", axes=["batch", 3, 4]), r"states .*tokens float32\[batch, 3, 4\]"),
    ],
)
def test_an_interface_that_contradicts_the_model_is_a_one_line_error(
    tmp_path: Path, interface: dict[str, Any], message: str
) -> None:
    bundle = write(tmp_path / "bundle")
    edit_manifest(bundle.path, interface=interface)
    with pytest.raises(BundleError, match=rf"graph='(mood|encoder)': the manifest {message}") as error:
        Bundle.open(bundle.path)
    assert "\n" not in str(error.value)


def test_a_model_that_contradicts_the_interface_is_a_one_line_error(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    model = MODEL.to_dict()
    model["heads"]["mood"]["labels"] = ["a"]
    model["heads"]["mood"]["decoder"]["d_output"] = 1
    edit_manifest(bundle.path, model=model)
    with pytest.raises(BundleError, match=r"graph='mood': .*logits float32\[batch, 2\].* has .*\[batch, 1\]"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("axes", [["batch", 6, 5], ["batch", 6], ["batch", "length", 4]])
def test_a_decoder_without_encoder_may_choose_its_length_alone(tmp_path: Path, axes: list[Any]) -> None:
    decoders = dataclasses.replace(MODEL, encoder=None)
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.path("mood.onnx").write_bytes(b"y")
        bundle = writer.commit(format="onnx", precision="fp32", model=decoders)
    edit_manifest(bundle.path, interface={"mood": altered("mood", "inputs", axes=axes)["mood"]})
    with pytest.raises(BundleError, match="graph='mood': the manifest states the interface"):
        Bundle.open(bundle.path)


def test_a_graph_comes_with_the_files_that_belong_to_it(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        for name in ("encoder.onnx", "encoder.onnx.data", "mood.onnx", "mood-2.onnx.data"):
            writer.path(name).write_bytes(name.encode())
        bundle = writer.commit(format="onnx", precision="fp32", model=MODEL)
    assert bundle.read_graph("encoder").companions == {"encoder.onnx.data": b"encoder.onnx.data"}
    assert bundle.read_graph("mood").companions == {}
    (bundle.path / "encoder.onnx.data").write_bytes(b"ENCODER.onnx.data")
    with pytest.raises(BundleError, match=r"encoder\.onnx\.data': has sha256"):
        bundle.read_graph("encoder")


def test_a_bundle_of_schema_1_opens_runs_and_passes_its_own_cases(tmp_path: Path) -> None:
    """Its manifest lacks the interfaces, which follow from its model."""
    bundle = Bundle.open(SCHEMA_1)
    assert bundle.interface == graph_interfaces(bundle.model)
    assert str(bundle.interface["encoder"]) == "(frames uint8[batch, 8, 8, 3]) -> (tokens float32[batch, 2, 4])"
    assert set(check_bundle(bundle, CPU)) == {"encoder", "colour", "light"}


def test_a_decoder_of_schema_1_has_the_length_that_it_was_lowered_for(tmp_path: Path) -> None:
    manifest = json.loads((SCHEMA_1 / "manifest.json").read_text())
    manifest["model"]["encoder"] = None
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert Bundle.open(tmp_path).interface["light"].input.axes == ("batch", 10, 4)
    edit_manifest(tmp_path, lowering={"light": {"length": 6, "blocks": []}})
    bundle = Bundle.open(tmp_path)
    assert bundle.interface["light"].input.axes == ("batch", 6, 4)
    assert bundle.interface["colour"].input.axes == ("batch", 10, 4)


def test_the_digest_covers_every_entry_of_the_manifest(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    path = bundle.path / "manifest.json"
    text = path.read_text()
    values = json.loads(text)
    assert list(values)[-1] == "digest"
    assert bundle.digest == values["digest"] == digest_of({k: v for k, v in values.items() if k != "digest"})
    reversed_labels = json.loads(text)
    reversed_labels["model"]["heads"]["mood"]["labels"] = ["b", "a"]
    other_mean = json.loads(text)
    other_mean["model"]["preprocessing"]["mean"] = [0.5, 0.5, 0.5]
    altered_values = [reversed_labels, other_mean, values | {"tools": {}}, values | {"note": 1}]
    altered_values += [{k: v for k, v in values.items() if k != "digest"}, values | {"digest": None}]
    altered_values += [values | {"schema_version": 2}, values | {"note": "\ud800"}]
    for changed in altered_values:
        path.write_text(json.dumps(changed))
        message = r"manifest\.json': its content does not match its own digest, .*; copy the bundle again, or export"
        with pytest.raises(BundleError, match=message) as error:
            Bundle.open(bundle.path)
        assert "\n" not in str(error.value)


def test_the_digest_is_that_of_the_content_not_of_its_layout(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    path = bundle.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(",", ":")))
    assert Bundle.open(bundle.path) == bundle


def test_what_a_tool_reports_is_covered_as_it_is_read(tmp_path: Path) -> None:
    """JSON has no numbers as keys: 2 and 10 become text, whose order is another one."""
    with BundleWriter(tmp_path / "bundle") as writer:
        for name in ("encoder.onnx", "mood.onnx"):
            writer.path(name).write_bytes(b"x")
        tools = {"sizes": {2: (1, "ü"), 10: 0.1}}
        bundle = writer.commit(format="onnx", precision="fp32", model=MODEL, tools=tools)
    assert bundle.tools == {"sizes": {"2": [1, "ü"], "10": 0.1}}


def test_a_bundle_of_schema_2_opens_and_passes_its_own_cases() -> None:
    """Its manifest has no digest."""
    bundle = Bundle.open(SCHEMA_2)
    assert bundle.digest is None
    assert bundle.interface == graph_interfaces(bundle.model)
    assert set(check_bundle(bundle, CPU)) == {"encoder", "colour", "light"}


def test_files_that_are_not_part_of_a_bundle_are_named_and_signatures_are_not(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    assert bundle.extra_files == ()
    for suffix in ("minisig", "sig", "sigstore.json"):
        (bundle.path / f"manifest.json.{suffix}").touch()
    (bundle.path / "encoder.onnx.old").touch()
    (bundle.path / ".hidden").touch()
    (bundle.path / "folder").mkdir()
    assert Bundle.open(bundle.path).extra_files == (".hidden", "encoder.onnx.old", "folder")


def test_a_bundle_is_replaced_only_with_force(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / "manifest.json.minisig").touch()
    with pytest.raises(BundleError, match=r"output='.*bundle': holds a bundle already; .* --force \(.*force=True\)"):
        BundleWriter(tmp_path / "bundle")
    write(tmp_path / "bundle", encoder=b"a newer graph", force=True)
    assert Bundle.open(tmp_path / "bundle").read("encoder.onnx") == b"a newer graph"
    assert names(tmp_path) == ["bundle"]


def test_a_bundle_with_an_unreadable_manifest_is_not_replaced(tmp_path: Path) -> None:
    manifest = write(tmp_path / "bundle").path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"a"', '"c"'))
    with pytest.raises(BundleError, match=r"cannot be read \(.*digest.*\); remove it, or choose another folder"):
        write(tmp_path / "bundle", force=True)
    assert len(names(tmp_path / "bundle")) == 3


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("present", ["nothing", "an empty folder", "a bundle"])
def test_of_two_exports_at_once_the_later_is_refused(tmp_path: Path, force: bool, present: str) -> None:
    if present == "a bundle":
        write(tmp_path / "bundle")
        force = True
    elif present == "an empty folder":
        (tmp_path / "bundle").mkdir()
    with BundleWriter(tmp_path / "bundle", force=force) as writer:
        for name in ("encoder.onnx", "mood.onnx"):
            writer.path(name).write_bytes(b"later")
        write(tmp_path / "bundle", encoder=b"sooner", force=True)
        with pytest.raises(BundleError, match="another export wrote this folder in the meantime") as error:
            writer.commit(format="onnx", precision="fp32", model=MODEL)
    assert "\n" not in str(error.value)
    assert Bundle.open(tmp_path / "bundle").read("encoder.onnx") == b"sooner"
    assert names(tmp_path) == ["bundle"]


def test_of_many_exports_at_once_exactly_one_wins(tmp_path: Path) -> None:
    """All of them have begun before the first commits, as the barrier ensures."""
    begun = threading.Barrier(8)

    def export(number: int) -> str:
        try:
            with BundleWriter(tmp_path / "bundle") as writer:
                writer.path("encoder.onnx").write_bytes(b"%d" % number)
                writer.path("mood.onnx").write_bytes(b"x")
                begun.wait()
                writer.commit(format="onnx", precision="fp32", model=MODEL)
        except BundleError as error:
            assert "another export wrote this folder" in str(error)
            return ""
        return str(number)

    with ThreadPoolExecutor(8) as pool:
        (winner,) = filter(None, pool.map(export, range(8)))
    assert Bundle.open(tmp_path / "bundle").read("encoder.onnx") == winner.encode()
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("one_step", [True, False])
def test_a_kill_while_a_bundle_is_replaced_leaves_one_and_the_next_export_nothing_else(
    tmp_path: Path, one_step: bool
) -> None:
    """The process dies as soon as the old bundle has left its place, or, without that step, has moved aside."""
    code = """
import os, signal, sys
from pathlib import Path
import shutil
from tests.toolkit.runtime.test_bundle import write
from vis4mer.runtime import output_folder
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "True":
    shutil.rmtree = die
else:
    output_folder.exchange = lambda one, other: False
    rename = Path.rename
    Path.rename = lambda path, target: (rename(path, target), die())
write(Path(sys.argv[1]), encoder=b"a newer graph", force=True)
"""
    write(tmp_path / "bundle")
    command = [sys.executable, "-c", code, str(tmp_path / "bundle"), str(one_step)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    if one_step:
        assert Bundle.open(tmp_path / "bundle").read("encoder.onnx") == b"a newer graph"
    assert len(names(tmp_path)) == 2
    write(tmp_path / "bundle", encoder=b"the newest graph", force=True)
    assert Bundle.open(tmp_path / "bundle").read("encoder.onnx") == b"the newest graph"
    assert names(tmp_path) == ["bundle"]


def test_a_failed_export_leaves_the_older_bundle(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "bundle", force=True) as writer:
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


def test_a_path_that_is_not_a_bundle_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("photos", "file", "link"):
        with pytest.raises(BundleError, match="will not be overwritten"):
            write(tmp_path / name)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_a_file_that_is_not_part_of_the_bundle_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        write(tmp_path / "bundle", force=True)
    assert (tmp_path / "bundle" / "notes.txt").read_text() == "mine"


def test_an_altered_file_is_never_returned(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle")
    (bundle.path / "mood.onnx").write_bytes(b"HEAD graph")
    with pytest.raises(BundleError, match="sha256"):
        bundle.read("mood.onnx")
    with pytest.raises(BundleError, match="sha256"):
        bundle.verify()
    (bundle.path / "mood.onnx").write_bytes(b"head")
    with pytest.raises(BundleError, match="4 bytes, but the manifest states 10"):
        bundle.read("mood.onnx")
    (bundle.path / "mood.onnx").unlink()
    with pytest.raises(BundleError, match="missing"):
        bundle.read("mood.onnx")
    os.mkfifo(bundle.path / "mood.onnx")
    with pytest.raises(BundleError, match="missing"):
        bundle.read("mood.onnx")


@pytest.mark.parametrize("name", ["../encoder.onnx", "/etc/passwd", "a/b", ".hidden", "", "a\nb", "manifest.json"])
def test_file_names_cannot_leave_the_bundle(tmp_path: Path, name: str) -> None:
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
        ({"schema_version": 4}, "schema_version=4: .* reads schema_version 1, 2, 3; export it again, or update"),
        ({"schema_version": True}, "schema_version=True"),
        ({"schema_version": None}, "schema_version=None"),
        ({"format": "pickle"}, "format='pickle'"),
        ({"format": ["onnx"]}, "format="),
        ({"precision": "int1"}, "precision='int1'"),
        ({"precision": ["fp32"]}, "precision="),
        ({"interface": []}, "must be a JSON object"),
        ({"interface": {}}, "graph='encoder': the manifest states no interface of it"),
        ({"interface": {"encoder": 1}}, "graph='encoder': interface=1: must be a JSON object with the keys"),
        ({"model": {}}, "model is invalid"),
        ({"model": []}, "model is invalid"),
        ({"files": {}}, r"encoder\.\*"),
        ({"files": []}, "must be a JSON object"),
        ({"parity": 3}, "must be a JSON object"),
        ({"files": {"encoder.onnx": {"sha256": "zz", "bytes": 1}}}, "digest or size"),
        ({"files": {"encoder.onnx": {"sha256": "0" * 64, "bytes": "1"}}}, "digest or size"),
        ({"files": {"encoder.onnx": 1}}, "digest or size"),
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


def test_a_folder_without_manifest_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="lacks 'model'"):
        (tmp_path / "manifest.json").write_text('{"schema_version": 1}')
        Bundle.open(tmp_path)


def test_leftovers_of_a_killed_export_are_removed_by_the_next(tmp_path: Path) -> None:
    code = "import os, sys; from vis4mer.runtime.bundle import BundleWriter\n"
    code += "with BundleWriter(sys.argv[1]) as w: w.path('a.onnx').write_bytes(b'half'); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "bundle")], check=False)
    assert killed.returncode == -9
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".bundle.")
    with BundleWriter(tmp_path / "bundle"):
        assert not leftover.exists()
    assert list(tmp_path.iterdir()) == []
