"""Files that are either the old one or the whole new one, whatever kills the process in between."""

import contextlib
import os
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
    prefix = f".{path.name}.{socket.gethostname()}."
    _remove_leftovers(path.parent, prefix)
    temporary = path.with_name(f"{prefix}{os.getpid()}")
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


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Removes the temporary files of this host's processes that are no more."""
    for file in folder.iterdir():
        process = file.name.removeprefix(prefix)
        if file.name.startswith(prefix) and process.isdecimal() and not Path("/proc", process).exists():
            file.unlink(missing_ok=True)
