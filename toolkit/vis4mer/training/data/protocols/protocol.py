"""The settings and files of a published benchmark, and their conversion to a listing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vis4mer.config import EncoderConfig, Preprocessing, Task, WindowConfig
from vis4mer.errors import DataError
from vis4mer.training.data.listing import Clip, Example, Listing, Split
from vis4mer.training.data.tables import read_table
from vis4mer.training.data.videos import find_videos


class Row(NamedTuple):
    """One video of a benchmark, as its files list it.

    Attributes:
        video: Identifier of the video: the name of its file without suffix.
        split: Split that the video belongs to.
        target: Index of the class, or the transformed value.
        label: Name of the class; empty for a regression.
        place: File and line of the row, for error messages.
        clip: Part of the video to use, in seconds; None for the whole video.
    """

    video: str
    split: Split
    target: float
    label: str
    place: str
    clip: Clip | None = None


@dataclass(frozen=True)
class Protocol:
    """Training and evaluation of one task of a published benchmark.

    Movies are scored by the sum of their windows' probabilities, or by the mean of their windows' values, as everywhere
    in `vis4mer.training`. The metric is the accuracy for classification, the mean squared error for regression.

    Attributes:
        name: Name of the task, such as ``lvu/scene``.
        task: ``classification`` or ``regression``.
        classes: Number of classes; 0 for a regression.
        read: Function that reads the rows of the split files in a folder.
        encoder: Name of the frozen encoder.
        preprocessing: Preprocessing of the frames.
        windows: Windows that a movie is cut into.
        epochs: Passes over the training movies.
        batch_size: Windows per step.
        holds_out: Whether the validation split is a part of the published training split, because the benchmark has
            no validation split of its own.
        published: Results by method: accuracies in percent, or mean squared errors.
    """

    name: str
    task: Task
    classes: int
    read: Callable[[Path], list[Row]]
    encoder: str = EncoderConfig.name
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    windows: WindowConfig = field(default_factory=WindowConfig)
    epochs: int = 100
    batch_size: int = 16
    holds_out: bool = False
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def published_fractions(self) -> dict[str, float]:
        """Results by method, with accuracies in [0, 1]."""
        unit = 100 if self.task == "classification" else 1
        return {method: value / unit for method, value in self.published.items()}

    def settings(self) -> dict[str, Any]:
        """Returns the settings that the benchmark prescribes, in the form of `TrainSettings.to_dict`."""
        return {
            "encoder": {"name": self.encoder},
            "preprocessing": self.preprocessing.to_dict(),
            "windows": self.windows.to_dict(),
            "head": {"name": self.name.rpartition("/")[2]},
            "training": {"epochs": self.epochs, "batch_size": self.batch_size, "schedule": "plateau"},
        }

    def listing(self, splits: Path, videos: Path) -> Listing:
        """Reads the benchmark's files and finds its videos.

        Args:
            splits: Folder of the benchmark's own split files.
            videos: Folder to search for the videos, by identifier and with any suffix.

        Returns:
            Videos that exist, and under `missing` those that do not.

        Raises:
            DataError: A file is missing or malformed, a class or a video is listed wrongly, or no video exists.
        """
        rows = self.read(splits)
        self._check(rows)
        labels = _class_names(rows, self.classes)
        found = find_videos(videos, [row.video for row in rows])
        if not found:
            rule = f"holds none of the {len(rows)} videos of {self.name}, such as {rows[0].video!r} with any suffix"
            raise DataError.of("videos", videos, rule, "pass the folder they were downloaded to")
        present: list[Example] = []
        missing: list[Example] = []
        for row in rows:
            path = found.get(row.video, videos / row.video)
            example = Example(path, row.target, row.split, row.clip)
            (present if row.video in found else missing).append(example)
        return Listing(self.task, labels, tuple(present), tuple(missing))

    def _check(self, rows: Sequence[Row]) -> None:
        if not rows:
            raise DataError.of("protocol", self.name, "its split files list no video", "download them again")
        places: dict[str, str] = {}
        for row in rows:
            if row.video in places:
                raise DataError(f"{row.place}: video {row.video!r} is also listed in {places[row.video]}; remove one")
            places[row.video] = row.place
            if self.task == "classification" and row.target not in range(self.classes):
                rule = f"class {row.target:g} is not one of 0 to {self.classes - 1}"
                raise DataError(f"{row.place}: {rule}; {self.name} has {self.classes} classes")


def _class_names(rows: Iterable[Row], classes: int) -> tuple[str, ...]:
    """Returns the names of the classes; the name of a class without videos is its number."""
    if not classes:
        return ()
    names: dict[int, str] = {}
    for row in rows:
        index = int(row.target)
        name = names.setdefault(index, row.label)
        if name != row.label:
            raise DataError(f"{row.place}: class {index} is {row.label!r} here and {name!r} before; make them the same")
    return tuple(names.get(index, str(index)) for index in range(classes))


def read_split_file(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Reads a split file with a header row.

    Args:
        path: File to read.
        columns: Columns that the header must name, in any order.
        delimiter: Character between the fields of a row.

    Yields:
        File and line of each row, for error messages, and its fields by column.

    Raises:
        DataError: The file is missing, or is not such a table.
    """
    remedy = "pass the folder of the benchmark's split files, or download them again"
    table = read_table(path, "splits", remedy, delimiter=delimiter, quoted=False)
    for column in columns:
        if column not in table.columns:
            rule = f"the header must name {column!r}, but names {list(table.columns)}"
            raise DataError(f"{table.place(1)}: {rule}; download it again")
    for row in table.rows:
        place, width = table.place(row.line), len(table.columns)
        if row.n_fields != width:
            raise DataError(f"{place}: holds {row.n_fields} fields; must hold {width}: {' '.join(table.columns)}")
        yield place, row.fields


def parse_count(place: str, name: str, text: str) -> int:
    """Converts the text of a count or an index.

    Args:
        place: File and line, for the error message.
        name: Column of the text.
        text: Decimal digits.

    Raises:
        DataError: The text is not a whole number.
    """
    if not text.isdecimal():
        raise DataError.of(f"{place}: {name}", text, "must be a whole number, 0 or more", "download the file again")
    return int(text)
