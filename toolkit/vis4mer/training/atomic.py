"""Files that are either the old one or the whole new one, whatever kills the process in between."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes `path`'s place when the block ends without an exception.

    The bytes go to a temporary file in the same folder (a rename is atomic within one file system only), reach the
    disk before the rename, and are removed if the block raises. The name holds the process id, so that two processes
    that write the same file do not write into each other.

    Args:
        path: the file to create or replace; its folder must exist.

    Yields:
        The temporary file, seekable, in binary mode.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
