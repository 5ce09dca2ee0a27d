"""Writes the results of `vis4mer run`: to stdout one by one, or to a file all at once, even when interrupted."""

import secrets
import select
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import click

from vis4mer.cli.destinations import may_replace
from vis4mer.cli.report import Form
from vis4mer.errors import OutputError, Vis4merError
from vis4mer.files import write_atomically
from vis4mer.runtime.prediction import Prediction


class Results:
    """Collects results as they are made.

    Args:
        form: Form in which they are reported.
        output: File to write; None for stdout.

    Attributes:
        output: File to write; None for stdout.
        done: Number of movies with a prediction.
        failed: Number of movies without one.
    """

    def __init__(self, form: Form, output: str | None) -> None:
        self._form, self.output = form, output
        self.done = self.failed = 0
        self._items: list[str] = []
        self._ended = False
        # Reentrant: an interrupt may arrive in the main thread while it is saving, and its handler saves too.
        self._saving = threading.RLock()
        self._sent = False  # to a pipe or a device
        if output is None:
            _print(form.begin)

    def add(self, prediction: Prediction) -> None:
        """Prints the prediction, or keeps it for the file."""
        self._add(self._form.item(prediction))
        self.done += 1

    def fail(self, video: str, error: Vis4merError) -> None:
        """Prints that a movie failed, or keeps that for the file."""
        self._add(self._form.failure(video, str(error)))
        self.failed += 1

    def _add(self, item: str) -> None:
        if not item:
            return
        if self.output is None:
            _print((self._form.between if self._items else "") + item)
        self._items.append(item)

    def close(self) -> bool:
        """Completes the printed text, or writes the file.

        Returns:
            Whether the file was written.

        Raises:
            OutputError: The file cannot be written; see `save`.
        """
        if self.output is None:
            self._print_end()
        return self.save()

    def interrupt(self) -> bool:
        """Completes the printed text, or writes the file if there is a prediction for it. It does not block.

        Returns:
            Whether the file was written.

        Raises:
            OutputError: The file cannot be written; see `save`.
        """
        if self.output is not None:
            return self.done > 0 and self.save()
        if _stdout_is_ready():
            with suppress(OSError):  # the reader of a pipe may have been interrupted too
                self._print_end()
        return False

    def _print_end(self) -> None:
        # An interrupt may arrive while the main thread does this.
        if not self._ended:
            self._ended = True
            _print(self._form.end)

    def save(self) -> bool:
        """Writes the results so far to the file, if there is one. An interrupt may call this from another thread.

        A pipe or a device is written to once only, because it keeps what an interrupted first time has written.

        Returns:
            Whether the results were written.

        Raises:
            OutputError: The file cannot be written. The message names the file elsewhere that holds the results
                instead; if none can be written, they are printed to stdout.
        """
        if self.output is None:
            return False
        with self._saving:
            if self._sent:
                return False
            self._sent = not may_replace(self.output)
            data = _encode(self._form.begin + self._form.between.join(self._items) + self._form.end)
            try:
                write_atomically(self.output, data)
            except OutputError as error:
                place = _rescue(data, self.output)
                if place is None:
                    click.echo(data, nl=False)
                raise OutputError(f"{error}. The results are in {place or 'stdout'}") from None
            return True


def _rescue(data: bytes, output: str) -> Path | None:
    """Writes data that cannot go to `output` to a new file elsewhere; returns its path, or None if there is none."""
    name = Path(output)
    for folder in (Path(tempfile.gettempdir()), Path.home()):
        place = folder / f"{name.stem}-{secrets.token_hex(4)}{name.suffix}"
        try:
            write_atomically(place, data)
        except OutputError:
            continue
        return place
    return None


def _stdout_is_ready() -> bool:
    """Returns whether a short text can be printed at once: the reader of a pipe may have stopped reading."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError):  # stdout is closed, or is no file of the operating system
        return False


def _print(text: str) -> None:
    click.echo(_encode(text), nl=False)


def _encode(text: str) -> bytes:
    """Encodes text as UTF-8 whatever the locale; a file name that is not UTF-8 keeps its bytes."""
    return text.encode("utf-8", "surrogateescape")
