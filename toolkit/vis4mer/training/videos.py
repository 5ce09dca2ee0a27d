"""Videos in folders: all of them, or those that a data set knows by an identifier."""

from collections.abc import Collection
from pathlib import Path

from vis4mer.errors import DataError

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
))
# fmt: on


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
