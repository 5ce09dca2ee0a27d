import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vis4mer.errors import DataError
from vis4mer.training.data.protocols import find_protocol


def facts(index: int, subset: str, **changed: Any) -> dict[str, Any]:
    annotation = [{"id": "8", "segment": [13.0, 22.0], "label": "step"}]
    return {
        "class": f"Task{index}",
        "recipe_type": index,
        "subset": subset,
        "start": 11.5,
        "end": 96.25,
        "duration": 120.0,
        "video_url": "https://example.org/embed/x",
        "annotation": annotation,
    } | changed


def write(folder: Path, database: Any) -> Path:
    (folder / "COIN.json").write_text(json.dumps({"database": database}))
    return folder


def test_clips_of_180_classes_with_an_even_validation_split(tmp_path: Path) -> None:
    database = {f"t{i:03}": facts(i % 3, "training") for i in range(60)} | {"x000": facts(179, "testing")}
    database |= {name: facts(0, "testing") for name in ("AfiVmAjfTNs", "cjwtcDKTQM8")}
    videos = tmp_path / "videos"
    for name in database:
        (videos / name[0]).mkdir(parents=True, exist_ok=True)
        (videos / name[0] / f"{name}.mp4").touch()
    (videos / "t" / "t007.mp4").unlink()
    protocol = find_protocol("coin")
    listing = protocol.listing(write(tmp_path, database), videos)
    assert (protocol.classes, protocol.preprocessing.segments, protocol.windows.samples) == (180, 256, 64)
    assert [len(listing.split(split)) for split in ("train", "val", "test")] == [53, 6, 1]
    assert Counter(example.target for example in listing.split("val")) == {0: 2, 1: 2, 2: 2}
    assert {example.clip for example in listing.examples} == {(11.5, 96.25)}
    assert listing.split("test")[0].target == 179
    assert [example.video.name for example in listing.missing] == ["t007"]
    assert (listing.labels[2], listing.labels[3], listing.labels[179]) == ("Task2", "3", "Task179")
    assert listing == protocol.listing(tmp_path, videos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "COIN.json': no such file"),
        ('{"database": {\n"a": }}', "line 2: not JSON"),
        ("[]", "is not COIN's annotation"),
        ('{"database": []}', "must be a JSON object"),
        ('{"database": {"a": {"class": "x"}}}', r"database\.a: must name .*'start'"),
        (json.dumps({"database": {"a": facts(0, "validation")}}), r"database\.a: must name .*'validation'"),
        (json.dumps({"database": {"a": facts(0, "training", end=3)}}), r"database\.a: start=11.5, end=3"),
        (json.dumps({"database": {"a": facts(180, "training")}}), r"database\.a: class 180 is not one of 0 to 179"),
    ],
)
def test_a_malformed_annotation_is_named_with_its_place(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "COIN.json").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        find_protocol("coin").listing(tmp_path, tmp_path)
    assert "\n" not in str(error.value)
