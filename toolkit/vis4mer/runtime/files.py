"""Writes the files that a user names for results."""

import os
import stat
from pathlib import Path

from vis4mer.errors import Vis4merError
from vis4mer.files import atomic_file

_PROBE_BYTES = 64 << 10


def check_writable(path: str | os.PathLike[str]) -> None:
    """Finds out before the work whether `write_atomically` will be able to write its result.

    Raises:
        Vis4merError: the place is missing, forbidden, a directory, or full.
    """
    target = Path(path)
    try:
        if _is_regular_or_new(target):
            probe = Path(os.path.realpath(target)).parent / f".vis4mer-{os.getpid()}"
            try:
                probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from None


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` so that the file is the old one or the whole new one.

    A device or pipe such as ``/dev/stdout`` is written to directly, and a symbolic link's target is replaced.

    Raises:
        Vis4merError: the file cannot be written; what was there before is unchanged.
    """
    target = Path(path)
    try:
        if _is_regular_or_new(target):
            with atomic_file(Path(os.path.realpath(target))) as file:
                file.write(data)
        else:
            target.write_bytes(data)
    except OSError as error:
        raise _cannot_write(target, error) from None


def _is_regular_or_new(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(0, "it is a directory")
    return stat.S_ISREG(mode)


def _cannot_write(target: Path, error: OSError) -> Vis4merError:
    return Vis4merError(f"output={str(target)!r}: cannot be written: {error.strerror}; name another place")
