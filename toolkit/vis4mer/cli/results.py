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
    """Collects results in any order, and reports them in that of the movies.

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
        self._items: dict[int, str] = {}  # texts by number of the movie; on stdout, only those not printed yet
        self._next = 0  # number of the movie whose text is printed next
        self._printed = self._ended = False
        # Reentrant: an interrupt may arrive in the main thread while it is saving, and its handler saves too.
        self._saving = threading.RLock()
        self._sent = False  # to a pipe or a device
        if output is None:
            _print(form.begin)

    def add(self, number: int, prediction: Prediction) -> None:
        """Prints the prediction, once all earlier movies are over, or keeps it for the file.

        Args:
            number: Number of the movie, counted from 0.
            prediction: Its prediction.
        """
        self._add(number, self._form.item(prediction))
        self.done += 1

    def fail(self, number: int, video: str, error: Vis4merError) -> None:
        """Prints that a movie failed, once all earlier movies are over, or keeps that for the file."""
        self._add(number, self._form.failure(video, str(error)))
        self.failed += 1

    def _add(self, number: int, item: str) -> None:
        self._items[number] = item
        while self.output is None and self._next in self._items:
            self._print_item(self._items.pop(self._next))
            self._next += 1

    def _print_item(self, item: str) -> None:
        if item:
            _print((self._form.between if self._printed else "") + item)
            self._printed = True

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
            # Results are left only by an interrupt, which ends movies that come before them.
            for number in sorted(self._items):
                self._print_item(self._items.pop(number))
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
            items = (self._items[number] for number in sorted(self._items))
            text = self._form.between.join(item for item in items if item)
            data = _encode(self._form.begin + text + self._form.end)
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
