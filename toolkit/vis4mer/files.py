"""Files that are either the old one or the whole new one, whatever kills the process in between."""

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
