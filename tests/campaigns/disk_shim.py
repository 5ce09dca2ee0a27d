"""Compiles and loads ``disk_shim.c``, which injects failures into the calls that change files."""

import ctypes
import enum
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

_SOURCE = Path(__file__).with_name("disk_shim.c")
_LOADED = "VIS4MER_DISK_SHIM"  # environment variable with the path of the library that LD_PRELOAD has loaded

NO_COMPILER = "there is no C compiler for the library that injects failures"


class Kind(enum.IntFlag):
    """Calls that change files; values as in the C source."""

    WRITE = 1
    FLUSH = 2
    RENAME = 4
    OPEN = 8
    FOLDER = 16
    REMOVE = 32

    @classmethod
    def all(cls) -> "Kind":
        """Returns the kinds together."""
        return cls.WRITE | cls.FLUSH | cls.RENAME | cls.OPEN | cls.FOLDER | cls.REMOVE


class Mode(enum.IntEnum):
    """What happens at a call; values as in the C source."""

    COUNT = 0
    FAIL_ONCE = 1
    FAIL_ON = 2
    KILL_BEFORE = 3
    KILL_AFTER = 4


def compiler() -> str | None:
    """Returns the path of a C compiler; None if there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def is_loaded() -> bool:
    """Returns whether this process was started with the library."""
    return _LOADED in os.environ


def restart_with_shim() -> None:
    """Starts this Python program again with the library, which only a process that starts can load.

    Returns if the library is loaded already, or if there is no compiler.
    """
    found = compiler()
    if is_loaded() or found is None:
        return
    library = Path(tempfile.mkdtemp(prefix="vis4mer-shim-")) / "shim.so"
    subprocess.run([found, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    preload = ":".join(filter(None, (str(library), os.environ.get("LD_PRELOAD", ""))))
    _restart({**os.environ, "LD_PRELOAD": preload, _LOADED: str(library)})


def _restart(environment: dict[str, str]) -> NoReturn:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def arm(folder: Path, mode: Mode, kinds: Kind, at: int = 0, error: int = 0) -> None:
    """Lets calls of this process fail, or kills it.

    Args:
        folder: Folder, without symbolic links in its path, to whose files alone this applies.
        mode: What happens.
        kinds: Kinds of calls that count.
        at: Number of the call, from 1, at which it happens first.
        error: Error number of the calls that fail.
    """
    _library().vis4mer_shim_arm(os.fsencode(folder), int(mode), int(kinds), ctypes.c_long(at), error)


def counted() -> int:
    """Returns the number of calls since `arm`."""
    return int(_library().vis4mer_shim_counted())


def failed() -> int:
    """Returns the number of calls that failed since `arm`."""
    return int(_library().vis4mer_shim_failed())


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ[_LOADED])
    library.vis4mer_shim_counted.restype = library.vis4mer_shim_failed.restype = ctypes.c_long
    return library
