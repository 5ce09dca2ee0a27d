from pathlib import Path

import pytest

from vis4mer.errors import DataError
from vis4mer.training.data.protocols import find_protocol

HEADER = "file_name,duration,action,class_id"


def write(folder: Path, train: list[str], test: list[str]) -> Path:
    for split, rows in (("train", train), ("test", test)):
        (folder / f"{split}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


def row(person: int, camera: str = "cam01", dish: str = "cereals", index: int = 0) -> str:
    return f"P{person:02}-{camera}-P{person:02}_{dish},46,{dish},{index}"


def test_the_settings_are_the_published_ones() -> None:
    protocol = find_protocol("breakfast")
    assert (protocol.encoder, protocol.classes, protocol.batch_size, protocol.epochs) == ("swin3d_b", 10, 16, 100)
    assert (protocol.preprocessing.segments, protocol.windows.samples) == (512, 64)
    assert protocol.published == {"ViS4mer": 88.2}


def test_people_are_held_out_and_damaged_videos_left_out(tmp_path: Path) -> None:
    people = range(3, 25)
    train = [row(person, camera) for person in people for camera in ("cam01", "stereo")]
    train += [row(28), row(28, "cam02"), row(28, "cam01", "tea", 2), row(27, "stereo", "milk_ch0", 8)]
    splits = write(tmp_path, train, [row(47), row(47, "cam01", "tea", 2)])
    videos = tmp_path / "videos"
    for name in [line.split(",")[0] for line in train] + ["P47-cam01-P47_tea"]:
        path = videos.joinpath(*name.split("-")).with_suffix(".avi")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    listing = find_protocol("breakfast").listing(splits, videos)

    held_out = {example.video.parts[-3] for example in listing.split("val")}
    assert held_out == {"P03", "P13", "P23"}
    assert len(listing.split("val")) == 6
    assert not held_out & {example.video.parts[-3] for example in listing.split("train")}
    assert len(listing.split("train")) == (len(people) - 3) * 2 + 1
    assert [example.video for example in listing.split("test")] == [videos / "P47/cam01/P47_tea.avi"]
    assert [example.video.name for example in listing.missing] == ["P47-cam01-P47_cereals"]
    assert listing.labels == ("cereals", "1", "tea", *map(str, range(3, 10)))


def test_a_class_out_of_range_is_an_error(tmp_path: Path) -> None:
    splits = write(tmp_path, [row(3), row(4, "cam01", "cake", 10)], [row(47)])
    with pytest.raises(DataError, match=r"train\.csv', line 3: class 10 is not one of 0 to 9"):
        find_protocol("breakfast").listing(splits, tmp_path)
