"""Writes result files that are complete or absent."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from vis4mer.errors import Vis4merError

_PROBE_BYTES = 64 << 10


def check_writable(path: str | os.PathLike[str]) -> None:
    """Finds out before the work whether `write_atomically` will be able to write its result.

    Raises:
        Vis4merError: the place is missing, forbidden, a directory, or full.
    """
    target = Path(path)
    try:
        if _is_regular_or_new(target):
            _write_and_sync(temporary := _beside(target), bytes(_PROBE_BYTES))
            temporary.unlink()
    except OSError as error:
        raise _cannot_write(target, error) from None


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to a file beside `path`, flushes it to disk and renames it, so that nobody sees half a file.

    A device or pipe such as ``/dev/stdout`` is written to directly, and a symbolic link's target is replaced.

    Raises:
        Vis4merError: the file cannot be written; what was there before is unchanged.
    """
    target = Path(path)
    try:
        if not _is_regular_or_new(target):
            target.write_bytes(data)
            return
        temporary = _beside(target)
        _write_and_sync(temporary, data)
        temporary.replace(Path(os.path.realpath(target)))
    except OSError as error:
        raise _cannot_write(target, error) from None


def _is_regular_or_new(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(0, "is a directory")
    return stat.S_ISREG(mode)


def _beside(target: Path) -> Path:
    """A new name in the target's folder: short, since the target's own name may be as long as names can be."""
    return Path(os.path.realpath(target)).parent / f".vis4mer-{secrets.token_hex(8)}"


def _write_and_sync(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def _cannot_write(target: Path, error: OSError) -> Vis4merError:
    return Vis4merError(f"output={str(target)!r}: cannot be written: {error.strerror}; name another place")
