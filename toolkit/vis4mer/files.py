"""Files that are written completely or not at all, even if the process is killed in between."""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vis4mer.errors import OutputError, Vis4merError

_PROBE_BYTES = 64 << 10
_LONGEST_LABEL = 128  # bytes of a file's own name in a staging name

# A path through an open descriptor, on Linux and elsewhere. /dev/stdout, /dev/fd and /proc/self are links that lead to
# such a path.
_DESCRIPTOR = re.compile(r"/proc/(?P<process>\d+)(/task/\d+)?/fd/(?P<number>\d+)|/dev/fd/(?P<own_number>\d+)")
_MOST_LINKS = 40  # as Linux follows at most

# Python has no renameat2; these are its arguments in Linux's headers.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that replaces `path` when the block ends without an exception.

    The bytes go to a temporary file in the same folder, because a rename is atomic only within one file system. They
    reach the disk before the rename, and are removed if the block raises. The file gets the mode of the one that it
    replaces; a new file gets the mode of the process's umask.

    Args:
        path: File to create or replace; its folder must exist.

    Yields:
        The temporary file, seekable, in binary mode. A library may also replace it by its name.

    Raises:
        OutputError: The file cannot be written; its old content is unchanged.
    """
    try:
        with _replacement(path) as file:
            yield file
    except Vis4merError:  # the caller's own error, which may be an OSError as well
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    temporary = staging_path(path)
    try:
        with temporary.open("xb") as file:  # never through a link that another user has put there
            mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
            os.fchmod(file.fileno(), mode)
            yield file
        # Opened again, because a library that was given the name may have put a new file in its place: safetensors
        # writes one that only its owner can read.
        with temporary.open("rb") as written:
            os.fchmod(written.fileno(), mode)
            os.fsync(written.fileno())
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
    name = os.fsencode(path.name)
    # File systems limit a name to 255 bytes, which may leave no room for the host and the process.
    label = path.name if len(name) <= _LONGEST_LABEL else hashlib.sha256(name).hexdigest()
    prefix = f".{label}.{socket.gethostname()}."
    for leftover in path.parent.iterdir():
        process = leftover.name.removeprefix(prefix).partition(".")[0]
        if leftover.name.startswith(prefix) and process.isdecimal() and not _is_running(process):
            _remove(leftover)
    return path.with_name(f"{prefix}{os.getpid()}.{secrets.token_hex(4)}")


def _remove(leftover: Path) -> None:
    if leftover.is_dir():
        shutil.rmtree(leftover, ignore_errors=True)
        return
    # In a shared folder such as /tmp, another user's leftover cannot be removed, and does not disturb.
    with contextlib.suppress(OSError):
        leftover.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two files or folders of one file system in one step, so that neither is ever missing.

    Returns:
        Whether it was done; some network file systems, old kernels and C libraries cannot do it.

    Raises:
        OSError: The names cannot be exchanged for another reason.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


def _is_running(process: str) -> bool:
    """Returns whether a process of this host may still write; a zombie may not."""
    try:
        status = Path("/proc", process, "stat").read_text()
    except OSError:
        # Some systems have no /proc, and on others it hides other users' processes. Signal 0 does nothing but
        # report whether the process exists.
        try:
            os.kill(int(process), 0)
        except PermissionError:
            return True
        except (OSError, OverflowError):
            return False
        return True
    # The state is the first field after the command's name, which is in parentheses and may contain any character.
    state = status.rpartition(")")[2].split()[0]
    return state not in ("Z", "X")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Checks before long work that `write_atomically` can write its result.

    Raises:
        OutputError: The folder is missing or not writable, the path is a folder, or the disk is full.
    """
    target = Path(path)
    try:
        if is_replaceable(target):
            # A staging name, so that the next process removes it if this one is killed.
            probe = staging_path(Path(os.path.realpath(target)))
            try:
                probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from None


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that it always holds either its old content or all of `data`.

    For a symbolic link, its target is replaced. A pipe, a device, and whatever an open descriptor refers to (such as
    ``/dev/stdout`` or ``/dev/fd/3``) are written to directly, after what they hold already.

    Raises:
        OutputError: The file cannot be written; its old content is unchanged.
    """
    target = Path(path)
    try:
        if is_replaceable(target):
            with _replacement(Path(os.path.realpath(target))) as file:
                file.write(data)
        else:
            with _open_directly(target) as file:
                file.write(data)
    except OSError as error:
        raise _cannot_write(target, error) from None


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Returns whether two paths name one file, which need not exist yet."""
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them does not exist yet
        return os.path.realpath(one) == os.path.realpath(other)


def own_descriptor(path: str | os.PathLike[str]) -> int | None:
    """Returns the number of this process's descriptor that a path leads to, such as 1 for ``/dev/stdout``, or None."""
    descriptor = _descriptor(Path(path))
    if descriptor is None:
        return None
    process, number, own_number = descriptor.group("process", "number", "own_number")
    return int(own_number or number) if process in (None, str(os.getpid())) else None


def is_replaceable(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path names a regular file, or none yet, that another file may replace.

    Raises:
        IsADirectoryError: The path names a folder.
        OSError: The path cannot be followed.
    """
    target = Path(path)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    return stat.S_ISREG(mode) and _descriptor(target) is None


def _open_directly(target: Path) -> BinaryIO:
    """Opens a file that is not replaced, at its end; opening it anew for writing would empty it."""
    number = own_descriptor(target)
    return target.open("ab") if number is None else os.fdopen(os.dup(number), "wb")


def _descriptor(target: Path) -> re.Match[str] | None:
    """Follows links one by one, up to the first that is an open descriptor: `realpath` would name the file behind."""
    path = target.absolute()
    for _ in range(_MOST_LINKS):
        path = Path(os.path.realpath(path.parent), path.name)
        if found := _DESCRIPTOR.fullmatch(str(path)):
            return found
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def _cannot_write(target: Path, error: OSError) -> OutputError:
    failure = OutputError.of("output", target, *write_failure(error))
    failure.strerror = error.strerror or str(error)
    return failure


def write_failure(error: OSError) -> tuple[str, str]:
    """Returns the rule and the remedy in the message about a file or folder that cannot be written."""
    remedy = "free some space, or choose another place" if error.errno in _FULL else "choose another place"
    return f"cannot be written: {error.strerror or error}", remedy
