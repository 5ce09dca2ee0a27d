"""Files that are written whole or not at all, whatever ends the process in between."""

import contextlib
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vis4mer.errors import Vis4merError

_PROBE_BYTES = 64 << 10


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes `path`'s place when the block ends without an exception.

    The bytes go to a temporary file in the same folder (a rename is atomic within one file system only), reach the
    disk before the rename, and are removed if the block raises. The name holds host and process, so that two processes
    that write the same file do not write into each other, and the next one removes what a killed one left behind.

    Args:
        path: the file to create or replace; its folder must exist.

    Yields:
        The temporary file, seekable, in binary mode.
    """
    temporary = staging_path(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself is only durable once the folder is
    finally:
        os.close(folder)


def staging_path(path: Path) -> Path:
    """A name beside `path` for what will take its place: hidden, and of this process alone.

    What killed processes of this host left under such names for the same `path`, files or folders, is removed.
    """
    prefix = f".{path.name}.{socket.gethostname()}."
    for leftover in path.parent.iterdir():
        process = leftover.name.removeprefix(prefix).partition(".")[0]
        if leftover.name.startswith(prefix) and process.isdecimal() and not _lives(process):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}.{secrets.token_hex(4)}")


def _lives(process: str) -> bool:
    """Whether a process of this host may still write; one that has ended and that nobody waits for does not."""
    try:
        status = Path("/proc", process, "stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


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
