"""Long-form Video Understanding: nine tasks on clips of movies, one to three minutes long.

Reference: Wu and Krähenbühl, Towards Long-Form Video Understanding (CVPR 2021); Islam and Bertasius, ViS4mer (ECCV
2022), section 4. The published files are ``<task>/{train,val,test}.csv``, fields separated by spaces.
"""

import math
from functools import partial
from pathlib import Path

from vis4mer.config import Preprocessing
from vis4mer.errors import DataError
from vis4mer.training.data.listing import Split
from vis4mer.training.data.protocols.protocol import Protocol, Row, parse_count, read_split_file

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_METHODS = ("Object Transformer", "ViS4mer", "VideoMamba-Ti")

# The published protocol subtracts these from the targets, so that their mean over the training split is zero.
_MEAN_LOG_VIEWS = 11.76425435683139
_MEAN_LIKES_OF_TEN = 9.138220535629456


def _classification(task: str, splits: Path) -> list[Row]:
    rows = []
    for split in _SPLITS:
        path = splits / task / f"{split}.csv"
        for place, fields in read_split_file(path, ("class_id", "class_name", "youtube_id"), delimiter=" "):
            target = parse_count(place, "class_id", fields["class_id"])
            rows.append(Row(fields["youtube_id"], split, target, fields["class_name"], place))
    return rows


def _like_ratio(splits: Path) -> list[Row]:
    rows = []
    for split in _SPLITS:
        path = splits / "like_ratio" / f"{split}.csv"
        for place, fields in read_split_file(path, ("like_count", "dislike_count", "youtube_id"), delimiter=" "):
            likes = parse_count(place, "like_count", fields["like_count"])
            dislikes = parse_count(place, "dislike_count", fields["dislike_count"])
            if likes + dislikes == 0:
                raise DataError(f"{place}: like_count and dislike_count are both 0: no ratio exists; remove the row")
            target = 10 * likes / (likes + dislikes) - _MEAN_LIKES_OF_TEN
            rows.append(Row(fields["youtube_id"], split, target, "", place))
    return rows


def _view_count(splits: Path) -> list[Row]:
    rows = []
    for split in _SPLITS:
        path = splits / "view_count" / f"{split}.csv"
        for place, fields in read_split_file(path, ("view_count", "youtube_id"), delimiter=" "):
            views = parse_count(place, "view_count", fields["view_count"])
            if views == 0:
                raise DataError(f"{place}: view_count=0 has no logarithm; remove the row")
            rows.append(Row(fields["youtube_id"], split, math.log(views) - _MEAN_LOG_VIEWS, "", place))
    return rows


def _protocol(task: str, classes: int, *results: float) -> Protocol:
    read = {"like_ratio": _like_ratio, "view_count": _view_count}.get(task) or partial(_classification, task)
    return Protocol(
        name=f"lvu/{task}",
        task="classification" if classes else "regression",
        classes=classes,
        read=read,
        preprocessing=Preprocessing(last_frame=True),
        published=dict(zip(_METHODS, results, strict=True)),
    )


PROTOCOLS = (
    _protocol("relationship", 4, 53.10, 57.14, 62.50),
    _protocol("way_speaking", 5, 39.40, 40.79, 40.43),
    _protocol("scene", 6, 56.90, 67.44, 70.37),
    _protocol("director", 10, 51.20, 62.61, 67.29),
    _protocol("genre", 4, 54.60, 54.71, 65.24),
    _protocol("writer", 10, 34.50, 48.80, 52.98),
    _protocol("year", 9, 39.10, 44.75, 48.23),
    _protocol("like_ratio", 0, 0.23, 0.26, 0.26),
    _protocol("view_count", 0, 3.55, 3.63, 2.90),
)
