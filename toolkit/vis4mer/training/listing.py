"""Which movies to learn from; read from a CSV with a path, a label or a value, and optionally a split, per row."""

import csv
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from vis4mer.config import Task
from vis4mer.errors import DataError

Split = Literal["train", "val", "test"]
Clip = tuple[float, float]  # start and end, in seconds after the movie's first frame


@dataclass(frozen=True)
class Example:
    """One movie and what should be predicted for it.

    Attributes:
        video: the movie's file.
        target: index of the label for classification, the value for regression.
        split: the part of the data it belongs to.
        clip: the part of the movie that counts, where it is not all of it.
    """

    video: Path
    target: float
    split: Split
    clip: Clip | None = None


@dataclass(frozen=True)
class Listing:
    """A data set: what is predicted, and the movies it is learned from.

    Attributes:
        task: ``classification`` or ``regression``.
        labels: names of the classes, in the order of their indices; empty for regression.
        examples: every movie, in the order of the file.
        missing: movies of a published data set that are not there, with the paths they were looked for at.
    """

    task: Task
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    missing: tuple[Example, ...] = ()

    def split(self, name: Split) -> tuple[Example, ...]:
        """Returns the movies of one split, which may be none."""
        return tuple(example for example in self.examples if example.split == name)

    @classmethod
    def read(cls, path: Path, *, val_ratio: float = 0.2, seed: int = 0) -> Self:
        """Reads a CSV with a header row: ``path``, then ``label`` or ``value``, and optionally ``split``.

        Other columns are ignored. Relative paths start at the CSV's folder. The classes are the labels of the training
        split, sorted (as numbers where all of them are).

        Args:
            path: the CSV file, UTF-8.
            val_ratio: share of the movies that become the validation split where the file has no ``split`` column,
                in (0, 1); drawn evenly over the labels, or over the range of the values. At least one movie is held
                out, and of every label at least one is left to train on.
            seed: of that draw.

        Raises:
            DataError: the file is not such a CSV, a video is missing or listed twice, a value is no number, a label
                does not occur in the training split, or the training or validation split is empty.
        """
        rows, columns = _read_rows(path)
        task: Task = "classification" if "label" in columns else "regression"
        videos = [path.parent / row["path"] for row in rows]
        _refuse(path, "no such video", (str(video) for video in videos if not video.is_file()))
        _refuse(path, "listed twice", _repeated([str(video.resolve()) for video in videos]))

        texts = [row["label" if task == "classification" else "value"] for row in rows]
        _refuse(
            path, "without a label or value", (row["path"] for row, text in zip(rows, texts, strict=True) if not text)
        )
        values = [] if task == "classification" else _numbers(path, texts)
        splits = (
            _named_splits(path, [row["split"] for row in rows])
            if "split" in columns
            else draw_splits(values or texts, task, val_ratio, seed)
        )
        for needed in ("train", "val"):
            if needed not in splits:
                remedy = (
                    "add rows, or drop column 'split'"
                    if "split" in columns
                    else f"val_ratio={val_ratio} leaves one of each label to train on; add movies, or a column 'split'"
                )
                raise DataError(f"listing={str(path)!r}: no movie in split {needed!r}; {remedy}")
        labels: tuple[str, ...] = ()
        if task == "classification":
            labels = _classes(text for text, split in zip(texts, splits, strict=True) if split == "train")
            _refuse(path, "label that no training movie has", (text for text in texts if text not in labels))
            values = [labels.index(text) for text in texts]
        return cls(task, labels, tuple(map(Example, videos, values, splits)))


def _read_rows(path: Path) -> tuple[list[dict[str, str]], set[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True, restval="")
            rows = [{key: text.strip() for key, text in row.items() if key and isinstance(text, str)} for row in reader]
            columns = set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"listing={str(path)!r}: cannot be read as CSV ({error})") from None
    if "path" not in columns or len(columns & {"label", "value"}) != 1:
        rule = "its header row must name the columns 'path' and either 'label' or 'value'"
        raise DataError(f"listing={str(path)!r}: {rule}; it names {sorted(columns)}")
    return rows, columns


def _refuse(path: Path, fault: str, offenders: Iterable[str]) -> None:
    """Raises an error that names the first offender and counts all of them, if there is any."""
    if found := list(offenders):
        raise DataError(f"listing={str(path)!r}: {fault}: {found[0]!r} ({len(found)} in all)")


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _numbers(path: Path, texts: Sequence[str]) -> list[float]:
    _refuse(path, "value that is no finite number", (text for text in texts if not _is_finite(text)))
    return [float(text) for text in texts]


def _is_finite(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _named_splits(path: Path, names: Sequence[str]) -> list[Split]:
    known = get_args(Split)
    _refuse(path, f"split that is none of {', '.join(known)}", (name for name in names if name not in known))
    return [split for name in names for split in known if split == name]


def draw_splits(targets: Sequence[str] | Sequence[float], task: Task, ratio: float, seed: int) -> list[Split]:
    """Draws a validation split, evenly over the labels or over the range of the values.

    Args:
        targets: of every movie, its label or its value.
        task: decides between the two.
        ratio: share that becomes ``val``, in (0, 1); the others are ``train``. At least one movie is held out, and of
            every label at least one is left to train on.
        seed: of the draw.

    Raises:
        DataError: `ratio` is outside its range.
    """
    if not 0 < ratio < 1:
        raise DataError(f"val_ratio={ratio!r}: must be in (0, 1)")
    order = list(range(len(targets)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda i: targets[i])  # stable: random within a label
    # Training keeps the first movie of every label; at even steps through the others, movies are held out.
    others = [i for before, i in itertools.pairwise(order) if task == "regression" or targets[before] == targets[i]]
    held_out = min(max(1, round(ratio * len(targets))), len(others))
    splits: list[Split] = ["train"] * len(targets)
    for step in range(held_out):
        splits[others[(2 * step + 1) * len(others) // (2 * held_out)]] = "val"
    return splits


def _classes(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names))
