"""A manifest that was changed, its digest computed anew, no longer fits the answers and pictures in the cases."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vis4mer.devices.device import CPU
from vis4mer.errors import BundleError
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.cases import CASES_FILE, Cases
from vis4mer.runtime.manifest import FileRecord, read_manifest, write_manifest
from vis4mer.runtime.meaning import not_compared
from vis4mer.runtime.parity import check_bundle

SAMPLE = Path(__file__).parents[3] / "samples" / "bundle"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "bundle"))


def change_model(bundle: Path, change: Change) -> None:
    """Changes the manifest's model, and computes the manifest's digest anew."""
    change_manifest(bundle, lambda values: change(values["model"]))


def change_manifest(bundle: Path, change: Change) -> None:
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    del values["digest"]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    path.write_text(json.dumps(values | {"digest": hashlib.sha256(text.encode()).hexdigest()}))


def change_cases(bundle: Path, without: tuple[str, ...] = (), **changes: Any) -> None:
    """Changes arrays of the cases, and records the digests of the new file."""
    arrays = Cases.from_bytes((bundle / CASES_FILE).read_bytes()).arrays
    arrays = {name: array for name, array in arrays.items() if name not in without} | changes
    data = Cases(arrays).to_bytes()
    (bundle / CASES_FILE).write_bytes(data)
    manifest = read_manifest(bundle)
    record = FileRecord(hashlib.sha256(data).hexdigest(), len(data))
    write_manifest(dataclasses.replace(manifest, files={**manifest.files, CASES_FILE: record}), bundle)


def problem(bundle: Path) -> str:
    with pytest.raises(BundleError) as error:
        check_bundle(Bundle.open(bundle), CPU)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_sample_bundle_is_compared_in_full() -> None:
    bundle = Bundle.open(SAMPLE)
    assert set(check_bundle(bundle, CPU)) == {"encoder", "visitor"}
    assert not_compared(bundle) == ()


def test_reversed_labels_are_named_with_their_head(copy: Path) -> None:
    change_model(copy, lambda model: model["heads"]["visitor"]["labels"].reverse())
    message = "head='visitor': answers 'returns' to a random input, where the exported model answered 'stranger'; "
    assert problem(copy).startswith(message + "the manifest was changed")


def test_a_label_that_no_case_has_is_compared_too(copy: Path) -> None:
    """Every stored answer has its name, and still the order of the labels is not that of the exported model."""
    change_model(copy, lambda model: model["heads"]["visitor"]["labels"].reverse())
    change_cases(copy, without=("labels",))
    expected = "model.heads.visitor.labels=['stranger', 'returns']: was ['returns', 'stranger'] in the exported model"
    assert problem(copy).startswith(expected)


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("preprocessing", {"mean": [0.5, 0.0, 0.0]}),
        ("preprocessing", {"fps": 2.0}),
        ("preprocessing", {"resize": "crop"}),
        ("preprocessing", {"interpolation": "bicubic"}),
        ("preprocessing", {"last_frame": True}),
        ("windows", {"stride": 2.0}),
    ],
)
def test_another_preprocessing_is_named(copy: Path, section: str, changes: Mapping[str, Any]) -> None:
    def change(model: dict[str, Any]) -> None:
        model[section].update(changes)
        if "fps" in changes:
            model["windows"]["seconds"] = 30.0  # the same number of frames, so that the interfaces still fit

    change_model(copy, change)
    (key,) = changes
    assert problem(copy).startswith(f"model.{section}.{key}={changes[key]!r}: was ")


@pytest.mark.parametrize("changes", [{"resize": "crop"}, {"interpolation": "bicubic"}])
def test_another_resizing_shows_in_the_pictures_alone(copy: Path, changes: Mapping[str, Any]) -> None:
    change_model(copy, lambda model: model["preprocessing"].update(changes))
    change_cases(copy, without=("model", "labels"))
    assert "resizes picture 0 of the cases to pixels up to" in problem(copy)


def test_a_precision_with_a_larger_tolerance_is_named(copy: Path) -> None:
    change_manifest(copy, lambda values: values.update(precision="bf16"))
    assert problem(copy).startswith("precision='bf16': was 'fp32' in the export; the manifest was changed")


def test_cases_of_earlier_versions_pass_and_what_they_lack_is_listed(copy: Path) -> None:
    change_cases(copy, without=("model", "precision", "labels", "pictures"))
    bundle = Bundle.open(copy)
    assert set(check_bundle(bundle, CPU)) == {"encoder", "visitor"}
    labels, resizing = not_compared(bundle)
    assert "labels and preprocessing" in labels
    assert "resizing" in resizing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": np.array("{")}, "holds a model that is not a JSON object"),
        ({"model": np.array("[" * 100_000)}, "holds a model that is not a JSON object"),
        ({"model": np.array('{"heads": 1}')}, "holds an invalid model"),
        ({"labels": np.array("[]")}, "holds a labels that is not a JSON object"),
        ({"labels": np.array('{"visitor": ["returns"]}')}, "as labels of the 4 cases of 'visitor'"),
        ({"labels": np.array('{"visitor": 4}')}, "holds 4 as labels"),
        ({"pictures": np.zeros((2, 4, 4, 4), np.uint8)}, "pictures that are not uint8"),
        ({"pictures": np.zeros((2, 0, 4, 3), np.uint8)}, "pictures that are not uint8"),
        ({"pictures": np.zeros((2, 4, 4, 3), np.float32)}, "pictures that are not uint8"),
        ({"pictures": np.zeros((1, 4, 4, 3), np.uint8)}, "holds 1 pictures of 2 inputs from a movie"),
    ],
)
def test_malformed_records_are_one_line(copy: Path, changes: Mapping[str, Any], message: str) -> None:
    change_cases(copy, **changes)
    assert message in problem(copy)


def test_labels_keep_every_character(copy: Path) -> None:
    """NumPy's own strings lose null characters at their end."""
    odd = ["a\0", "b\u2028"]
    change_model(copy, lambda model: model["heads"]["visitor"].update(labels=odd))
    change_cases(copy, without=("model",), labels=np.array(json.dumps({"visitor": [odd[1], odd[1], odd[0], odd[0]]})))
    check_bundle(Bundle.open(copy), CPU)
