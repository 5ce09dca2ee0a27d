"""Files that are written completely or not at all, even if the process is killed in between."""

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
    """Opens a file for writing that replaces `path` when the block ends without an exception.

    The bytes go to a temporary file in the same folder, because a rename is atomic only within one file system. They
    reach the disk before the rename, and are removed if the block raises.

    Args:
        path: File to create or replace; its folder must exist.

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
        os.fsync(folder)  # makes the rename itself durable
    finally:
        os.close(folder)


def staging_path(path: Path) -> Path:
    """Returns a hidden name beside `path`, unique to this process, for a file or folder that will replace it.

    The name contains the host and the process ID, so two processes that write the same path do not disturb each
    other, and this function removes files and folders that killed processes of this host have left under such names.
    """
    prefix = f".{path.name}.{socket.gethostname()}."
    for leftover in path.parent.iterdir():
        process = leftover.name.removeprefix(prefix).partition(".")[0]
        if leftover.name.startswith(prefix) and process.isdecimal() and not _is_running(process):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}.{secrets.token_hex(4)}")


def _is_running(process: str) -> bool:
    """Returns whether a process of this host may still write; a zombie may not."""
    try:
        status = Path("/proc", process, "stat").read_text()
    except OSError:
        return False
    # The state is the first field after the command's name, which is in parentheses and may contain any character.
    state = status.rpartition(")")[2].split()[0]
    return state not in ("Z", "X")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Checks before long work that `write_atomically` can write its result.

    Raises:
        Vis4merError: The folder is missing or not writable, the path is a folder, or the disk is full.
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
    """Writes a file so that it always holds either its old content or all of `data`.

    A device or pipe such as ``/dev/stdout`` is written to directly; for a symbolic link, its target is replaced.

    Raises:
        Vis4merError: The file cannot be written; its old content is unchanged.
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


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Returns whether two paths name one file, which need not exist yet."""
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them does not exist yet
        return os.path.realpath(one) == os.path.realpath(other)


def _is_regular_or_new(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(0, "it is a folder")
    return stat.S_ISREG(mode)


def _cannot_write(target: Path, error: OSError) -> Vis4merError:
    return Vis4merError.of("output", target, f"cannot be written: {error.strerror}", "choose another file")
