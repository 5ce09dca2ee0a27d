"""Breakfast: which of ten dishes is made, in videos of half a minute to ten minutes.

The published files are ``train.csv`` and ``test.csv``; people 3 to 46 are trained on, 47 to 54 tested. The published
code chooses its epoch on the test split. Here every tenth of the training people is held out to choose it: several
cameras film the same breakfast, so that a validation split of single videos would have been seen in training.

Reference: Kuehne, Arslan and Serre, The Language of Actions (CVPR 2014); Islam and Bertasius, ViS4mer (ECCV 2022).
"""

from pathlib import Path

from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.training.listing import Split
from vis4mer.training.protocols.protocol import Protocol, Row, number, read_table

# The published protocol leaves out three videos that are too damaged to be read.
_SKIPPED = frozenset({"P28-cam01-P28_cereals", "P27-stereo-P27_milk_ch0", "P28-cam02-P28_cereals"})
_COLUMNS = ("file_name", "action", "class_id")


def _read(splits: Path) -> list[Row]:
    train, test = (_rows(splits / f"{split}.csv", split) for split in ("train", "test"))
    validated = set(sorted({_person(row) for row in train})[::10])
    return [row._replace(split="val") if _person(row) in validated else row for row in train] + test


def _rows(path: Path, split: Split) -> list[Row]:
    return [
        Row(fields["file_name"], split, number(place, "class_id", fields["class_id"]), fields["action"], place)
        for place, fields in read_table(path, _COLUMNS, delimiter=",")
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
