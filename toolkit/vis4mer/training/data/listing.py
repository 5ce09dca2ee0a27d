"""The movies of a data set and their targets, read from a CSV with a path, a label or value, and optionally a split."""

import itertools
import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast, get_args

from vis4mer.config import Task
from vis4mer.errors import DataError
from vis4mer.training.data.tables import Table, read_table

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
        missing: Movies of a published data set whose files do not exist, with the paths where they were expected.
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
        """Logs a warning with the names of the missing movies, if there are any.

        Args:
            data_set: Name of the data set.
        """
        if self.missing:
            names = " ".join(example.video.name for example in self.missing)
            total = len(self.examples) + len(self.missing)
            logger.warning("%d of %d videos of %s are missing: %s", len(self.missing), total, data_set, names)

    @classmethod
    def read(cls, path: Path, *, val_ratio: float = 0.2, seed: int = 0) -> Self:
        """Reads a CSV with the header ``path``, then ``label`` or ``value``, and optionally ``split``.

        Other columns are ignored. Relative paths start at the CSV's folder. The classes are the labels of the training
        split, sorted; as numbers if all of them are numbers.

        Args:
            path: CSV file, UTF-8.
            val_ratio: Fraction of the movies to draw for the validation split if the file has no ``split`` column, in
                (0, 1). See `draw_splits`.
            seed: Seed of that draw.

        Raises:
            DataError: The file is not such a CSV, a video is missing or listed twice, a value is not a number, a label
                does not occur in the training split, or the training or validation split is empty.
        """
        table = _read_columns(path)
        task: Task = "classification" if "label" in table.columns else "regression"
        videos = _existing_videos(path, table)
        texts = _target_texts(path, table, task)
        values = _finite_numbers(path, texts) if task == "regression" else []
        if "split" in table.columns:
            splits = _named_splits(path, [row.fields["split"] for row in table.rows])
            remedy = "add rows, or drop column 'split'"
        else:
            splits = draw_splits(values or texts, task, val_ratio, seed)
            remedy = f"val_ratio={val_ratio} leaves one of each label to train on; add movies, or a column 'split'"
        for needed in ("train", "val"):
            if needed not in splits:
                raise DataError.of("listing", path, f"no movie in split {needed!r}", remedy)
        labels: tuple[str, ...] = ()
        if task == "classification":
            labels = _class_names(text for text, split in zip(texts, splits, strict=True) if split == "train")
            _refuse_any(path, "label that no training movie has", (text for text in texts if text not in labels))
            values = [labels.index(text) for text in texts]
        return cls(task, labels, tuple(map(Example, videos, values, splits)))


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


def _read_columns(path: Path) -> Table:
    table = read_table(path, "listing", "pass a CSV of movies")
    n_targets = len({"label", "value"} & set(table.columns))
    if "path" not in table.columns or n_targets != 1:
        rule = "the header row must name the columns 'path' and either 'label' or 'value'"
        raise DataError.of("listing", path, f"{rule}, but names {list(table.columns)}")
    return table


def _existing_videos(path: Path, table: Table) -> list[Path]:
    videos = [path.parent / row.fields["path"] for row in table.rows]
    _refuse_any(path, "no such video", (str(video) for video in videos if not _is_file(video)))
    seen: set[Path] = set()
    repeated = []
    for video in map(Path.resolve, videos):
        if video in seen:
            repeated.append(str(video))
        seen.add(video)
    _refuse_any(path, "listed twice", repeated)
    return videos


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that may not be searched
        return False


def _target_texts(path: Path, table: Table, task: Task) -> list[str]:
    column = "label" if task == "classification" else "value"
    _refuse_any(path, f"without a {column}", (row.fields["path"] for row in table.rows if not row.fields[column]))
    return [row.fields[column] for row in table.rows]


def _finite_numbers(path: Path, texts: Sequence[str]) -> list[float]:
    _refuse_any(path, "value that is not a finite number", (text for text in texts if not _is_finite(text)))
    return [float(text) for text in texts]


def _is_finite(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _named_splits(path: Path, names: Sequence[str]) -> list[Split]:
    known = get_args(Split)
    _refuse_any(path, f"split that is none of {', '.join(known)}", (name for name in names if name not in known))
    return cast(list[Split], list(names))


def _class_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _refuse_any(path: Path, fault: str, offenders: Iterable[str]) -> None:
    """Raises an error if there are any offenders; it quotes the first and counts all of them."""
    if found := list(offenders):
        raise DataError.of("listing", path, f"{fault}: {found[0]!r} ({len(found)} in all)")
