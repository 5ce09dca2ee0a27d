"""Files in the user's cache folder: what was computed once on this machine and may be lost at any time."""

import logging
import os
from pathlib import Path

from vis4mer.errors import OutputError
from vis4mer.files import write_atomically

logger = logging.getLogger(__name__)


def read_cached(name: str) -> bytes:
    """Returns the content of a cached file; nothing if it is missing or cannot be read.

    Args:
        name: Name of the file.
    """
    try:
        path = _folder() / name
        return path.read_bytes() if path.is_file() else b""  # reading a FIFO would block
    except (OSError, RuntimeError) as error:
        logger.debug("cannot read the cached %s: %s", name, error)
        return b""


def write_cached(name: str, data: bytes) -> None:
    """Replaces a cached file, whole or not at all; a cache that cannot be written is only logged.

    Args:
        name: Name of the file.
        data: New content.
    """
    try:
        folder = _folder()
        # Some of the files hold machine code, so no other user may put files here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(folder / name, data)
    except (OSError, OutputError, RuntimeError) as error:
        logger.debug("cannot cache %s: %s", name, error)


def _folder() -> Path:
    """Returns the folder of this package's caches.

    Raises:
        RuntimeError: The user has no home folder.

    Reference: XDG Base Directory Specification, which ignores relative paths.
    """
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".cache") / "vis4mer"
