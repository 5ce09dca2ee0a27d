"""Breakfast: which of ten dishes is prepared, in videos of half a minute to ten minutes.

The published files are ``train.csv`` and ``test.csv``; people 3 to 46 are for training, people 47 to 54 for testing.
The published code chooses its epoch on the test split. Here every tenth of the training people is held out to choose
it. Several cameras film the same breakfast, so a validation split of single videos would repeat breakfasts from the
training split.

Reference: Kuehne, Arslan and Serre, The Language of Actions (CVPR 2014); Islam and Bertasius, ViS4mer (ECCV 2022).
"""

from pathlib import Path

from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.training.data.listing import Split
from vis4mer.training.data.protocols.protocol import Protocol, Row, parse_count, read_split_file

# The published protocol leaves out three videos whose files are damaged.
_SKIPPED = frozenset({"P28-cam01-P28_cereals", "P27-stereo-P27_milk_ch0", "P28-cam02-P28_cereals"})
_COLUMNS = ("file_name", "action", "class_id")


def _read(splits: Path) -> list[Row]:
    train, test = (_rows(splits / f"{split}.csv", split) for split in ("train", "test"))
    people = sorted({_person(row) for row in train})
    held_out = set(people[::10])
    return [row._replace(split="val") if _person(row) in held_out else row for row in train] + test


def _rows(path: Path, split: Split) -> list[Row]:
    return [
        Row(fields["file_name"], split, parse_count(place, "class_id", fields["class_id"]), fields["action"], place)
        for place, fields in read_split_file(path, _COLUMNS, delimiter=",")
        if fields["file_name"] not in _SKIPPED
    ]


def _person(row: Row) -> str:
    return row.video.partition("-")[0]


PROTOCOLS = (
    Protocol(
        name="breakfast",
        task="classification",
        classes=10,
        read=_read,
        encoder="swin3d_b",
        preprocessing=Preprocessing(segments=512),
        windows=WindowConfig(samples=64),
        holds_out=True,
        published={"ViS4mer": 88.2},
    ),
)
