"""What a published benchmark prescribes, and how its files become a listing."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vis4mer.config import EncoderConfig, Preprocessing, Task, WindowConfig
from vis4mer.errors import DataError
from vis4mer.training.listing import Clip, Example, Listing, Split
from vis4mer.training.videos import find_videos


class Row(NamedTuple):
    """One video of a benchmark, as its files list it.

    Attributes:
        video: its identifier, the name of its file without suffix.
        split: the part of the data it belongs to.
        target: index of the class, or the transformed value.
        label: name of the class; empty for a regression.
        clip: the part of the video that counts, where it is not all of it.
        place: file and line, for error messages.
    """

    video: str
    split: Split
    target: float
    label: str
    place: str
    clip: Clip | None = None


@dataclass(frozen=True)
class Protocol:
    """How one task of a published benchmark is trained and evaluated.

    Movies are scored by the sum of their windows' probabilities, or by the mean of their predictions, as everywhere
    in `vis4mer.training`; classifications by accuracy, regressions by mean squared error.

    Attributes:
        name: as ``lvu/scene``.
        task: ``classification`` or ``regression``.
        classes: how many; 0 for a regression.
        read: reads the rows of its split files from their folder.
        encoder: name of the frozen encoder.
        preprocessing: of the frames.
        windows: how a movie is cut.
        epochs: passes over the training movies.
        batch_size: windows per step.
        holds_out: whether the validation split was taken from the published training split, for want of another.
        published: results by method, accuracies in percent or mean squared errors.
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

    def listing(self, splits: Path, videos: Path) -> Listing:
        """Reads the benchmark's files and finds its videos.

        Args:
            splits: folder of the benchmark's own split files.
            videos: folder to look for the videos in, by identifier and with any suffix.

        Returns:
            The videos that were found, and under `missing` those that were not.

        Raises:
            DataError: a file is missing or malformed, a class or a video is listed wrongly, or no video is found.
        """
        rows = self.read(splits)
        self._check(rows)
        labels = _labels(rows, self.classes)
        found = find_videos(videos, [row.video for row in rows])
        examples = [Example(found.get(row.video, videos / row.video), row.target, row.split, row.clip) for row in rows]
        if not found:
            raise DataError(
                f"videos={str(videos)!r}: holds none of the {len(rows)} videos of {self.name}, such as "
                f"{rows[0].video!r} with any suffix; give the folder they were downloaded to"
            )
        present = [row.video in found for row in rows]
        return Listing(
            self.task,
            labels,
            tuple(example for example, there in zip(examples, present, strict=True) if there),
            tuple(example for example, there in zip(examples, present, strict=True) if not there),
        )

    def _check(self, rows: Sequence[Row]) -> None:
        if not rows:
            raise DataError(f"protocol={self.name!r}: its split files list no video; download them again")
        places: dict[str, str] = {}
        for row in rows:
            if row.video in places:
                raise DataError(f"{row.place}: video {row.video!r} is also listed in {places[row.video]}; remove one")
            places[row.video] = row.place
            if self.task == "classification" and row.target not in range(self.classes):
                rule = f"class {row.target:g} is not one of 0 to {self.classes - 1}"
                raise DataError(f"{row.place}: {rule}; {self.name} has {self.classes} classes")


def _labels(rows: Iterable[Row], classes: int) -> tuple[str, ...]:
    """Names of the classes; one that no video has is called by its number."""
    names: dict[int, str] = {}
    for row in rows:
        if classes and names.setdefault(int(row.target), row.label) != row.label:
            rule = f"class {int(row.target)} is {row.label!r} here and {names[int(row.target)]!r} before"
            raise DataError(f"{row.place}: {rule}; make them the same")
    return tuple(names.get(index, str(index)) for index in range(classes))


def read_table(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Reads a split file with a header row.

    Args:
        path: of the file.
        columns: that its header must name, in any order.
        delimiter: between the fields of a row.

    Yields:
        Per row its file and line, for error messages, and its fields by column.

    Raises:
        DataError: the file is missing, or is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
            header = [name.strip() for name in next(lines, [])]
            if missing := [name for name in columns if name not in header]:
                raise DataError(f"{_place(path, 1)}: its header does not name {missing[0]!r}; it names {header}")
            for line in lines:
                if not line:
                    continue
                place = _place(path, lines.line_num)
                if len(line) != len(header):
                    raise DataError(f"{place}: holds {len(line)} fields; must hold {len(header)}: {' '.join(header)}")
                yield place, dict(zip(header, map(str.strip, line), strict=True))
    except FileNotFoundError:
        raise DataError(f"splits={str(path)!r}: no such file; give the folder of the benchmark's split files") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"splits={str(path)!r}: cannot be read ({error}); download it again") from None


def number(place: str, name: str, text: str) -> int:
    """Returns the count or index that `text` stands for.

    Raises:
        DataError: it is no whole number of digits alone.
    """
    if not text.isdecimal():
        raise DataError(f"{place}: {name}={text!r}: must be a whole number, 0 or more; download the file again")
    return int(text)


def _place(path: Path, line: int) -> str:
    return f"splits={str(path)!r}, line {line}"
