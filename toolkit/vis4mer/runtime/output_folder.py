"""The folder that an export writes: nothing is lost there, and of two exports at once one is refused."""

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vis4mer.errors import BundleError
from vis4mer.files import exchange
from vis4mer.runtime.manifest import MANIFEST, extra_files, read_manifest

# Middle of the name of a bundle that has moved aside to be replaced.
_ASIDE = ".replaced-"


class OutputFolder:
    """A path that is free for a bundle, or holds a bundle that may be replaced.

    Args:
        path: Path of the folder.
        replace: Whether a bundle that is there may be replaced.

    Raises:
        BundleError: The path holds something else, files that are not part of a bundle, or a bundle that may not be
            replaced.
    """

    def __init__(self, path: str | os.PathLike[str], replace: bool) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would replace a link's target
        self._replace = replace
        try:
            self._found = _identity(self.path)
            self._check()
        except OSError as error:
            raise BundleError.of("output", self.path, f"cannot be read: {error.strerror}") from None

    def place(self, finished: Path) -> None:
        """Moves a finished folder, which lies beside this one, to this path.

        Raises:
            BundleError: Something has come to this path, or replaced what was there, since this object was made.
            OSError: The folder cannot be moved.
        """
        # An export takes long, so everything is checked again, and no other export may act between check and rename.
        with _locked(self.path.parent):
            if _identity(self.path) != self._found:
                rule = "another export wrote this folder in the meantime, and its bundle is kept"
                raise BundleError.of("output", self.path, rule, "choose another folder, or export again")
            self._check()
            if self._found is None:
                finished.rename(self.path)
            else:
                self._replace_by(finished)
            # Now that a bundle is in its place, those that a killed export moved aside are no longer needed. The lock
            # keeps other exports from moving one aside at this moment.
            for aside in self.path.parent.glob(f".{glob.escape(self.path.name)}{_ASIDE}*"):
                shutil.rmtree(aside, ignore_errors=True)
            # Names live in the parent folder, so flushing it makes the renames themselves durable.
            flush_to_disk(self.path.parent)

    def _replace_by(self, finished: Path) -> None:
        """Puts a finished folder in the place of the old bundle, which a process that is killed does not lose."""
        aside = self.path.with_name(f".{self.path.name}{_ASIDE}{finished.suffix[1:]}")
        if exchange(finished, self.path):
            old = finished
        else:
            # A rename cannot replace a folder that holds files, so the old bundle moves aside first. Between the two
            # renames it is the only copy, so it must not have a staging name, whose leftovers the next export removes.
            self.path.rename(aside)
            try:
                finished.rename(self.path)
            except BaseException:
                # Ctrl-C included: the old bundle returns to its place whatever stops the second rename.
                aside.rename(self.path)
                raise
            old = aside
        shutil.rmtree(old, ignore_errors=True)

    def _check(self) -> None:
        """Raises BundleError for anything but a free path, an empty folder or a bundle that may be replaced."""
        if self._found is None:
            return
        rule, remedy = "is not a bundle and will not be overwritten", "choose a new folder"
        if self.path.is_symlink() or not self.path.is_dir():
            raise BundleError.of("output", self.path, rule, remedy)
        names = {path.name for path in self.path.iterdir()}
        if not names:
            return
        if MANIFEST not in names:
            raise BundleError.of("output", self.path, rule, remedy)
        if not self._replace:
            remedy = "choose another folder, or pass --force (in Python force=True) to replace it"
            raise BundleError.of("output", self.path, "holds a bundle already", remedy)
        try:
            listed = read_manifest(self.path).files
        except BundleError as error:
            # Without its manifest, nothing shows which files are the bundle's and which would be lost.
            rule = f"holds a bundle that cannot be read ({error})"
            raise BundleError.of("output", self.path, rule, "remove it, or choose another folder") from None
        if foreign := extra_files(self.path, listed):
            rule = f"holds {foreign[0]!r}, which is not part of the bundle and would be lost"
            raise BundleError.of("output", self.path, rule, "move it away")


def flush_to_disk(path: Path) -> None:
    """Flushes a file's content, or a folder's entries, to the disk.

    Raises:
        OSError: The disk is full or fails.
    """
    # Folders can be opened for reading only, and flushing does not need more.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns what distinguishes the present file or folder from a later one of the same name; None if there is none.

    A link is not followed, so that a dangling one counts as present.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one export at a time move bundles within a folder."""
    # The lock is on the folder itself, so that no lock file is left over. It ends with the descriptor, and so with the
    # process, however that ends.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no locks. The check before the rename then leaves a gap of microseconds.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
