"""LVU's split files in their published layout: fields separated by spaces, identifiers of YouTube."""

import math
from pathlib import Path

import pytest

from vis4mer.errors import ConfigError, DataError
from vis4mer.training.data.listing import Example
from vis4mer.training.data.protocols import PROTOCOLS, find_protocol

CLASSES = {
    "relationship": 4,
    "way_speaking": 5,
    "scene": 6,
    "director": 10,
    "genre": 4,
    "writer": 10,
    "year": 9,
    "like_ratio": 0,
    "view_count": 0,
}
SCENE = {
    "train": ["0 office -aB_1 tt01", "1 airport a000 tt02", "5 \\N a001 tt03"],
    "val": ["1 airport b000 tt04"],
    "test": ["0 office c000 tt05", "3 hotel c001 tt05"],
}


def write(folder: Path, task: str, header: str, rows: dict[str, list[str]]) -> Path:
    (folder / task).mkdir(parents=True)
    for split, lines in rows.items():
        (folder / task / f"{split}.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def write_scene(folder: Path, **changed: list[str]) -> Path:
    return write(folder, "scene", "class_id class_name youtube_id imdb_id", SCENE | changed)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_nine_tasks_and_their_published_results() -> None:
    protocols = {name.removeprefix("lvu/"): p for name, p in PROTOCOLS.items() if name.startswith("lvu/")}
    assert {name: protocol.classes for name, protocol in protocols.items()} == CLASSES
    for protocol in protocols.values():
        assert protocol.task == ("classification" if protocol.classes else "regression")
        frames, windows = protocol.preprocessing, protocol.windows
        assert (frames.fps, frames.height, frames.width, frames.last_frame) == (1, 224, 224, True)
        assert (frames.resize, frames.interpolation, frames.mean, frames.std) == ("stretch", "area", (0,) * 3, (1,) * 3)
        assert (windows.seconds, windows.stride, windows.samples) == (60, 1, None)
        assert protocol.encoder == "vit_large_patch16_224.augreg_in21k"
        assert (protocol.batch_size, protocol.epochs) == (16, 100)
    assert protocols["scene"].published == {"Object Transformer": 56.9, "ViS4mer": 67.44, "VideoMamba-Ti": 70.37}
    assert protocols["view_count"].published["ViS4mer"] == 3.63


def test_a_classification_listing(tmp_path: Path) -> None:
    names = ("-aB_1.mp4", "deep/er/a000.MKV", "a001.webm", "b000.mov", "c001.avi", "unlisted.mp4", "c000.json")
    videos = touch(tmp_path / "videos", *names)
    listing = find_protocol("lvu/scene").listing(write_scene(tmp_path / "lvu"), videos)
    assert listing.task == "classification"
    assert listing.labels == ("office", "airport", "2", "hotel", "4", "\\N")
    assert listing.examples == (
        Example(videos / "-aB_1.mp4", 0, "train"),
        Example(videos / "deep/er/a000.MKV", 1, "train"),
        Example(videos / "a001.webm", 5, "train"),
        Example(videos / "b000.mov", 1, "val"),
        Example(videos / "c001.avi", 3, "test"),
    )
    assert listing.missing == (Example(videos / "c000", 0, "test"),)


def test_view_counts_become_centred_logarithms(tmp_path: Path) -> None:
    rows = {"train": ["1000 a tt1"], "val": ["1 b tt1"], "test": ["1000000 c tt1"]}
    splits = write(tmp_path, "view_count", "view_count youtube_id imdb_id", rows)
    listing = find_protocol("lvu/view_count").listing(splits, touch(tmp_path / "v", "a.mp4", "b.mp4", "c.mp4"))
    assert (listing.task, listing.labels) == ("regression", ())
    expected = [3 * math.log(10) - 11.76425435683139, -11.76425435683139, 6 * math.log(10) - 11.76425435683139]
    assert [example.target for example in listing.examples] == pytest.approx(expected, rel=1e-14)


def test_like_ratios_are_centred_and_scaled_to_ten(tmp_path: Path) -> None:
    rows = {"train": ["300 100 a tt1"], "val": ["0 7 b tt1"], "test": ["7 0 c tt1"]}
    splits = write(tmp_path, "like_ratio", "like_count dislike_count youtube_id imdb_id", rows)
    listing = find_protocol("lvu/like_ratio").listing(splits, touch(tmp_path / "v", "a.mp4", "b.mp4", "c.mp4"))
    mean = 9.138220535629456
    assert [example.target for example in listing.examples] == [7.5 - mean, -mean, 10 - mean]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": ["6 moon a000 tt01"]}, r"train\.csv', line 2: class 6 is not one of 0 to 5"),
        ({"train": ["-1 moon a000 tt01"]}, r"train\.csv', line 2: class_id='-1': must be a whole number"),
        ({"val": ["1 airport b000 tt04", "x y b001 tt04"]}, r"val\.csv', line 3: class_id='x'"),
        ({"val": ["1 airport b000 tt04", "1 airport b001"]}, r"val\.csv', line 3: holds 3 fields; must hold 4"),
        ({"test": ["1 harbour c000 tt04"]}, r"test\.csv', line 2: class 1 is 'harbour' here and 'airport' before"),
        (
            {"test": ["1 airport a000 tt04"]},
            r"test\.csv', line 2: video 'a000' is also listed in .*train\.csv', line 3",
        ),
        ({"train": [], "val": [], "test": []}, r"lvu/scene.*list no video"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, changed: dict[str, list[str]], message: str) -> None:
    splits = write_scene(tmp_path / "lvu", **changed)
    with pytest.raises(DataError, match=message) as error:
        find_protocol("lvu/scene").listing(splits, touch(tmp_path / "videos", "a000.mp4"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "header", "row", "message"),
    [
        ("view_count", "view_count youtube_id imdb_id", "0 a tt", "view_count=0 has no logarithm"),
        ("like_ratio", "like_count dislike_count youtube_id imdb_id", "0 0 a tt", "both 0"),
        (
            "scene",
            "class class_name youtube_id imdb_id",
            "0 office a tt",
            "line 1: the header must name 'class_id'",
        ),
    ],
)
def test_a_row_without_a_target_is_an_error(tmp_path: Path, task: str, header: str, row: str, message: str) -> None:
    splits = write(tmp_path, task, header, {split: [row] for split in ("train", "val", "test")})
    with pytest.raises(DataError, match=message):
        find_protocol(f"lvu/{task}").listing(splits, tmp_path)


def test_missing_split_files_and_videos_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scene/train\.csv': no such file; pass the folder"):
        find_protocol("lvu/scene").listing(tmp_path, tmp_path)
    splits = write_scene(tmp_path / "lvu")
    with pytest.raises(DataError, match=r"nowhere': no such folder"):
        find_protocol("lvu/scene").listing(splits, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds none of the 6 videos of lvu/scene, such as '-aB_1'"):
        find_protocol("lvu/scene").listing(splits, touch(tmp_path / "videos", "other.mp4"))


def test_two_files_of_one_video_are_an_error(tmp_path: Path) -> None:
    videos = touch(tmp_path / "videos", "a000.mp4", "again/a000.mkv")
    with pytest.raises(DataError, match=r"a000\.mp4' and '.*a000\.mkv' are both a000; keep one"):
        find_protocol("lvu/scene").listing(write_scene(tmp_path / "lvu"), videos)


@pytest.mark.parametrize("name", ["lvu", "lvu/plot", "Breakfast", ""])
def test_an_unknown_protocol_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be one of lvu/relationship, .*breakfast, coin"):
        find_protocol(name)
