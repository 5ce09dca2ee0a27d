"""COIN: which of 180 tasks an instructional video of a few minutes shows between its annotated start and end.

The published file is ``COIN.json``. The published code chooses its epoch on the test split. Here a tenth of the
training videos, drawn evenly over the classes, is held out to choose it.

Reference: Tang et al., COIN (CVPR 2019); Islam and Bertasius, ViS4mer (ECCV 2022), section 4.
"""

import json
import math
from pathlib import Path
from typing import Any

from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.errors import DataError
from vis4mer.training.data.listing import Split, draw_splits
from vis4mer.training.data.protocols.protocol import Protocol, Row

# The published protocol leaves out two videos whose files are damaged.
_SKIPPED = frozenset({"AfiVmAjfTNs", "cjwtcDKTQM8"})
_SUBSETS: dict[str, Split] = {"training": "train", "testing": "test"}
_VAL_RATIO = 0.1


def _read(splits: Path) -> list[Row]:
    path = splits / "COIN.json"
    rows = [
        _row(f"splits={str(path)!r}, database.{video}", video, facts)
        for video, facts in _database(path).items()
        if video not in _SKIPPED
    ]
    train, test = ([row for row in rows if row.split == split] for split in ("train", "test"))
    drawn = draw_splits([row.target for row in train], "classification", _VAL_RATIO, seed=0)
    return [row._replace(split=split) for row, split in zip(train, drawn, strict=True)] + test


def _database(path: Path) -> dict[str, Any]:
    try:
        database = json.loads(path.read_bytes())["database"]
    except FileNotFoundError:
        raise DataError.of("splits", path, "no such file", "pass the folder of COIN's annotation") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"splits={str(path)!r}, line {error.lineno}: not JSON ({error.msg}); download it again"
        ) from None
    except (OSError, UnicodeDecodeError, KeyError, TypeError) as error:
        rule = f"is not COIN's annotation ({error!r})"
        raise DataError.of("splits", path, rule, "download it again") from None
    if not isinstance(database, dict):
        raise DataError(f"splits={str(path)!r}, database: must be a JSON object of videos; download it again")
    return database


def _row(place: str, video: str, facts: Any) -> Row:
    try:
        start, end, target = float(facts["start"]), float(facts["end"]), int(facts["recipe_type"])
        split, label = _SUBSETS[facts["subset"]], str(facts["class"])
    except (KeyError, TypeError, ValueError) as error:
        rule = f"must name 'class', 'recipe_type', 'subset', 'start' and 'end' ({error!r})"
        raise DataError(f"{place}: {rule}; download it again") from None
    if not 0 <= start < end < math.inf:
        raise DataError(f"{place}: start={start:g}, end={end:g}: must be ascending seconds; download it again")
    return Row(video, split, target, label, place, (start, end))


PROTOCOLS = (
    Protocol(
        name="coin",
        task="classification",
        classes=180,
        read=_read,
        encoder="swin3d_b",
        preprocessing=Preprocessing(segments=256),
        windows=WindowConfig(samples=64),
        epochs=500,
        holds_out=True,
        published={"ViS4mer": 88.4},
    ),
)
