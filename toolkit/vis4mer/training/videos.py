"""Videos in folders and lists: all of them, or those that a data set knows by an identifier."""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from vis4mer.errors import DataError
from vis4mer.training.listing import Clip

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
))
# fmt: on


class Job(NamedTuple):
    """A video, or a clip of one, to encode."""

    video: Path
    clip: Clip | None = None


def videos_in(folder: Path) -> list[Path]:
    """Returns every video file of a folder and of the folders in it, sorted; a file is one by its suffix.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"videos={str(folder)!r}: no such folder; give the one that holds the videos")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def find_videos(folder: Path, identifiers: Collection[str]) -> dict[str, Path]:
    """Finds videos by name, with any video suffix, in a folder or the folders in it.

    A video answers to its name without suffix, and to that of its path in `folder` with ``-`` between the parts:
    ``P03/cam01/P03_tea.avi`` is ``P03_tea`` and ``P03-cam01-P03_tea``.

    Args:
        folder: to look in.
        identifiers: the names that are looked for.

    Returns:
        The paths of those that were found.

    Raises:
        DataError: there is no such folder, or two files have one of the names.
    """
    wanted, found = set(identifiers), dict[str, Path]()
    for path in videos_in(folder):
        for name in {path.stem, "-".join(path.relative_to(folder).with_suffix("").parts)} & wanted:
            if name in found:
                raise DataError(f"videos={str(folder)!r}: {str(found[name])!r} and {str(path)!r} are {name}; keep one")
            found[name] = path
    return found


def gather_videos(sources: Sequence[Path]) -> list[Path]:
    """Returns the videos that files, folders and lists stand for, each once, in their order.

    Args:
        sources: a folder stands for every video in it; a ``.csv`` file with a column 'path', or a ``.txt`` file with a
            path per line, for the videos it names (relative paths start at its folder); any other file for itself.

    Raises:
        DataError: a list cannot be read, or there is no video at all.
    """
    videos: list[Path] = []
    for source in sources:
        if source.is_dir():
            videos += videos_in(source)
        elif source.suffix.lower() in (".csv", ".txt"):
            videos += [source.parent / name for name in _listed(source)]
        else:
            videos.append(source)
    if not videos:
        raise DataError(f"videos={[str(source) for source in sources]}: hold no video; give files, folders or lists")
    unique: dict[Path, Path] = {}
    for video in videos:
        unique.setdefault(video.resolve(), video)
    return list(unique.values())


def _listed(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() == ".txt":
                return [line.strip() for line in file if line.strip()]
            reader = csv.DictReader(file, skipinitialspace=True, strict=True, restval="")
            if "path" not in (reader.fieldnames or ()):
                rule = "its header row must name a column 'path'"
                raise DataError(f"list={str(path)!r}: {rule}; it names {list(reader.fieldnames or ())}")
            return [name for row in reader if (name := row["path"].strip())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"list={str(path)!r}: cannot be read ({error})") from None
