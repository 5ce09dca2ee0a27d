"""Video files in folders and lists, and those of a data set that identifies its videos by name."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from vis4mer.errors import DataError
from vis4mer.training.data.listing import Clip
from vis4mer.training.data.tables import read_table, read_text

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
))
# fmt: on


class EncodingJob(NamedTuple):
    """A video, or a clip of one, to encode.

    Attributes:
        video: Video file.
        clip: Part of the video to encode, in seconds; None for the whole video.
    """

    video: Path
    clip: Clip | None = None


def videos_in(folder: Path) -> list[Path]:
    """Returns all video files in a folder and its subfolders, sorted; a file is a video if its suffix says so.

    Raises:
        DataError: The folder does not exist.
    """
    if not folder.is_dir():
        raise DataError.of("videos", folder, "no such folder", "pass the folder that holds the videos")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def find_videos(folder: Path, identifiers: Collection[str]) -> dict[str, Path]:
    """Finds videos by identifier, with any video suffix, in a folder and its subfolders.

    Two identifiers match a file: its name without suffix, and its path below `folder` without suffix, joined by ``-``.
    ``P03/cam01/P03_tea.avi`` matches ``P03_tea`` and ``P03-cam01-P03_tea``.

    Args:
        folder: Folder to search.
        identifiers: Identifiers to find.

    Returns:
        Path by identifier, without the identifiers that no file matches.

    Raises:
        DataError: The folder does not exist, or two files match one identifier.
    """
    wanted = set(identifiers)
    found: dict[str, Path] = {}
    for path in videos_in(folder):
        joined_path = "-".join(path.relative_to(folder).with_suffix("").parts)
        for name in {path.stem, joined_path} & wanted:
            if name in found:
                both = f"{str(found[name])!r} and {str(path)!r} are both {name}"
                raise DataError.of("videos", folder, both, "keep one of them")
            found[name] = path
    return found


def gather_videos(sources: Sequence[Path]) -> list[Path]:
    """Expands files, folders and lists to videos, each once, in their order.

    Args:
        sources: Paths. A folder stands for all videos in it. A ``.csv`` file with a column 'path', or a ``.txt`` file
            with one path per line, stands for the videos that it lists; relative paths start at the list's folder. Any
            other file stands for itself.

    Raises:
        DataError: A list cannot be read, or there is no video at all.
    """
    videos: list[Path] = []
    for source in sources:
        if source.is_dir():
            videos += videos_in(source)
        elif source.suffix.lower() in (".csv", ".txt"):
            videos += [source.parent / name for name in _listed_paths(source)]
        else:
            videos.append(source)
    if not videos:
        names = ", ".join(map(str, sources))
        raise DataError.of("videos", names, "no video file there", "pass video files, folders or lists")
    first_of_each: dict[Path, Path] = {}
    for video in videos:
        first_of_each.setdefault(video.resolve(), video)
    return list(first_of_each.values())


def _listed_paths(path: Path) -> list[str]:
    remedy = "pass a .csv file with a column 'path', or a .txt file with one path per line"
    if path.suffix.lower() == ".txt":
        lines = read_text(path, "list", remedy).split("\n")
        return [line.strip() for line in lines if line.strip()]
    table = read_table(path, "list", remedy)
    if "path" not in table.columns:
        raise DataError.of("list", path, f"the header row must name a column 'path', but names {list(table.columns)}")
    empty = ((row, ",".join(row.fields.values())) for row in table.rows if not row.fields["path"])
    table.refuse("without a path", empty)
    return [row.fields["path"] for row in table.rows]
