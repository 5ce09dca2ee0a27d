"""The movies of a data set and their targets, read from a CSV with a path, a label or value, and optionally a split."""

import itertools
import logging
import os
import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast, get_args

from vis4mer.config import HeadConfig, Task
from vis4mer.errors import DataError
from vis4mer.training.data.tables import Table, read_table
from vis4mer.training.names import shortened

Split = Literal["train", "val", "test"]
Clip = tuple[float, float]  # start and end, in seconds after the movie's first frame

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One movie and its target.

    Attributes:
        video: Movie file.
        target: Index of the label for classification, value for regression.
        split: Split that the movie belongs to.
        clip: Part of the movie to use, in seconds; None for the whole movie.
    """

    video: Path
    target: float
    split: Split
    clip: Clip | None = None


@dataclass(frozen=True)
class Listing:
    """The task and the movies of a data set.

    Attributes:
        task: ``classification`` or ``regression``.
        labels: Names of the classes, in the order of their indices; empty for regression.
        examples: All movies that exist, in the order of the file.
        missing: Listed movies whose files do not exist, with the paths where they were expected; always empty for a
            user's CSV that is read without ``skip_missing``.
    """

    task: Task
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    missing: tuple[Example, ...] = ()

    def split(self, name: Split) -> tuple[Example, ...]:
        """Returns the movies of one split; empty if there are none."""
        return tuple(example for example in self.examples if example.split == name)

    def require_split(self, name: Split) -> tuple[Example, ...]:
        """Returns the movies of one split.

        Raises:
            DataError: The split is empty.
        """
        if examples := self.split(name):
            return examples
        n_missing = len(self.missing_names(name))
        remedy = f"add rows with {name!r} in column 'split'"
        if n_missing:
            remedy = f"its movies are missing ({n_missing})"
        raise DataError.of("split", name, "holds no movie", remedy)

    def missing_names(self, split: Split) -> tuple[str, ...]:
        """Returns the names of the missing movies of one split."""
        return tuple(example.video.name for example in self.missing if example.split == split)

    def warn_missing(self, data_set: str) -> None:
        """Logs a warning with the number and the first names of the missing movies, if there are any.

        Args:
            data_set: Name of the data set.
        """
        if self.missing:
            names = shortened([example.video.name for example in self.missing])
            total = len(self.examples) + len(self.missing)
            logger.warning("%d of %d videos of %s are missing: %s", len(self.missing), total, data_set, names)

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        val_ratio: float = 0.2,
        seed: int = 0,
        skip_missing: bool = False,
        tested_head: HeadConfig | None = None,
    ) -> Self:
        """Reads a CSV with the header ``path``, then ``label`` or ``value``, and optionally ``split``.

        Other columns are ignored. Relative paths start at the CSV's folder. The classes are the labels of the training
        split, sorted; as numbers if all of them are numbers.

        Args:
            path: CSV file, UTF-8.
            val_ratio: Fraction of the movies to draw for the validation split if the file has no ``split`` column, in
                (0, 1). See `draw_splits`.
            seed: Seed of that draw, which does not depend on missing videos.
            skip_missing: Whether to list videos that do not exist under `missing` instead of refusing the file.
            tested_head: Trained head that the movies are to test. The classes are then those of the head, and any split
                may be empty.

        Raises:
            DataError: The file is not such a CSV, a video is missing or listed twice, a value is not a number, a label
                does not occur in the training split or is no class of `tested_head`, the training or validation split
                is empty, or the targets do not fit the task of `tested_head`.
        """
        table = _read_columns(path)
        task: Task = "classification" if "label" in table.columns else "regression"
        videos = [path.parent / row.fields["path"] for row in table.rows]
        exists = [_is_file(video) for video in videos]
        _check_videos(table, videos, exists, skip_missing)
        texts = _target_texts(table, task)
        values = _finite_numbers(table) if task == "regression" else []
        if "split" in table.columns:
            splits = _named_splits(table)
            remedy = "add rows, or drop column 'split'"
        else:
            splits = draw_splits(values or texts, task, val_ratio, seed)
            remedy = f"val_ratio={val_ratio} leaves one of each label to train on; add movies, or a column 'split'"
        if tested_head is not None:
            _check_targets(table, task, tested_head)
            labels = tested_head.labels
        else:
            present = list(itertools.compress(splits, exists))
            for needed in ("train", "val"):
                if needed not in present:
                    raise DataError.of("listing", path, f"no movie in split {needed!r}", remedy)
            labels = _trained_classes(table, splits, exists) if task == "classification" else ()
        if task == "classification":
            values = [labels.index(text) for text in texts]
        examples = tuple(map(Example, videos, values, splits))
        missing = itertools.compress(examples, (not there for there in exists))
        return cls(task, labels, tuple(itertools.compress(examples, exists)), tuple(missing))


def draw_splits(targets: Sequence[str] | Sequence[float], task: Task, ratio: float, seed: int) -> list[Split]:
    """Draws a validation split, evenly over the labels or over the range of the values.

    At least one movie is held out for validation, and at least one movie of every label is left to train on.

    Args:
        targets: Label or value of every movie.
        task: Kind of the targets.
        ratio: Fraction of the movies that become ``val``, in (0, 1); the others become ``train``.
        seed: Seed of the draw.

    Raises:
        DataError: `ratio` is outside its range.
    """
    if not 0 < ratio < 1:
        raise DataError.of("val_ratio", ratio, "must be in (0, 1)")
    order = list(range(len(targets)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda i: targets[i])  # The sort is stable, so movies of one label stay in random order.

    # Training keeps the first movie of every label. All others are candidates, still ordered by target.
    candidates = [
        movie
        for previous, movie in itertools.pairwise(order)
        if task == "regression" or targets[previous] == targets[movie]
    ]
    n_held_out = min(max(1, round(ratio * len(targets))), len(candidates))
    splits: list[Split] = ["train"] * len(targets)
    for step in range(n_held_out):
        # The middle of the step-th of n_held_out equal parts of the candidates.
        middle = (2 * step + 1) * len(candidates) // (2 * n_held_out)
        splits[candidates[middle]] = "val"
    return splits


def names_splits(path: Path) -> bool:
    """Returns whether a CSV of movies has a column 'split'.

    Raises:
        DataError: The file is not such a CSV.
    """
    return "split" in _read_columns(path).columns


def _read_columns(path: Path) -> Table:
    table = read_table(path, "listing", "pass a CSV of movies")
    n_targets = len({"label", "value"} & set(table.columns))
    if "path" not in table.columns or n_targets != 1:
        rule = "the header row must name the columns 'path' and either 'label' or 'value'"
        raise DataError.of("listing", path, f"{rule}, but names {list(table.columns)}")
    if not table.rows:
        raise DataError.of("listing", path, "lists no movie: there is no row below the header", "add one row per movie")
    return table


def _check_videos(table: Table, videos: Sequence[Path], exists: Sequence[bool], skip_missing: bool) -> None:
    table.refuse(
        "without a path", ((row, ",".join(row.fields.values())) for row in table.rows if not row.fields["path"])
    )
    rows = [(row, str(video)) for row, video in zip(table.rows, videos, strict=True)]
    if not skip_missing:
        gone = [row for row, present in zip(rows, exists, strict=True) if not present]
        has_backslash = bool(gone) and "\\" in gone[0][1]
        table.refuse("no such video", gone, "write the folders of a path with '/', not '\\'" if has_backslash else "")
    lines: dict[str, int] = {}
    # Path.resolve would raise an exception for a loop of links.
    for (row, text), video in zip(rows, map(os.path.realpath, videos), strict=True):
        if video in lines:
            raise DataError(
                f"{table.place(row.line)}: listed twice: {text!r} is in line {lines[video]} too; remove one"
            )
        lines[video] = row.line


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that may not be searched
        return False


def _target_texts(table: Table, task: Task) -> list[str]:
    column = "label" if task == "classification" else "value"
    table.refuse(f"without a {column}", ((row, row.fields["path"]) for row in table.rows if not row.fields[column]))
    return [row.fields[column] for row in table.rows]


def _check_targets(table: Table, task: Task, head: HeadConfig) -> None:
    """Checks that the movies can test a head.

    Raises:
        DataError: The targets are of another task, or a label is no class of the head.
    """
    if task != head.task:
        column = "label" if head.task == "classification" else "value"
        rule = f"holds the targets of a {task}, but the model predicts a {head.task}"
        raise DataError.of("listing", table.path, rule, f"name the targets in a column {column!r}")
    if head.task == "classification":
        unknown = ((row, row.fields["label"]) for row in table.rows if row.fields["label"] not in head.labels)
        fault = f"label that is none of the model's {len(head.labels)} classes"
        table.refuse(fault, unknown, "correct the label or remove the row")


def _finite_numbers(table: Table) -> list[float]:
    wrong = [(row, text) for row in table.rows if not _is_finite(text := row.fields["value"])]
    decimal_comma = bool(wrong) and _is_finite(wrong[0][1].replace(",", ".", 1))
    remedy = "write a decimal point instead of the comma" if decimal_comma else ""
    table.refuse("value that is not a finite number", wrong, remedy)
    return [float(row.fields["value"]) for row in table.rows]


def _is_finite(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _named_splits(table: Table) -> list[Split]:
    known = get_args(Split)
    names = [row.fields["split"].casefold() for row in table.rows]
    wrong = ((row, row.fields["split"]) for row, name in zip(table.rows, names, strict=True) if name not in known)
    table.refuse(f"split that is none of {', '.join(known)}", wrong)
    return cast(list[Split], names)


def _trained_classes(table: Table, splits: Sequence[Split], exists: Sequence[bool]) -> tuple[str, ...]:
    """Returns the labels of the training movies that exist; no other movie may have another label."""
    rows = zip(table.rows, splits, exists, strict=True)
    labels = _class_names(row.fields["label"] for row, split, there in rows if split == "train" and there)
    unknown = ((row, row.fields["label"]) for row in table.rows if row.fields["label"] not in labels)
    table.refuse("label that no training movie has", unknown, "correct it, or add training movies that have it")
    _warn_similar(table, labels)
    return labels


def _class_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    if all(name.isdecimal() for name in names):
        # Names of one number, such as "1" and "01", would otherwise keep the order of the set, which no run repeats.
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _warn_similar(table: Table, labels: Sequence[str]) -> None:
    """Logs a warning for labels that look alike: they are different classes, but often the same one typed twice."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(unicodedata.normalize("NFKC", label).casefold(), label)
        if other != label:
            logger.warning("%s: the labels %r and %r are different classes", table.path.name, other, label)
