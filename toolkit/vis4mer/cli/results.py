"""Where the results of `vis4mer run` go: to stdout one by one, or to a file all at once, also when interrupted."""

import threading

import click

from vis4mer.cli.report import Form
from vis4mer.errors import Vis4merError
from vis4mer.files import write_atomically
from vis4mer.runtime.prediction import Prediction


class Results:
    """Takes predictions as they are made.

    Args:
        form: in which they are reported.
        output: the file to write; stdout where None.
    """

    def __init__(self, form: Form, output: str | None) -> None:
        self._form, self._output = form, output
        self._items: list[str] = []
        self._saving = threading.RLock()
        if output is None:
            _print(form.begin)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, prediction: Prediction) -> None:
        """Prints the prediction, or keeps it for the file."""
        item = self._form.item(prediction)
        if self._output is None:
            _print((self._form.between if self._items else "") + item)
        self._items.append(item)

    def close(self) -> None:
        """Ends what was printed, or writes the file."""
        if self._output is None:
            _print(self._form.end)
        self.save()

    def save(self) -> None:
        """Writes the file, if there is one to write; an interrupt may come to this from another thread.

        Raises:
            Vis4merError: it cannot be written after all; the results go to stdout, so that the work is not lost.
        """
        if self._output is None:
            return
        with self._saving:
            text = self._form.begin + self._form.between.join(self._items) + self._form.end
            try:
                write_atomically(self._output, _encode(text))
            except Vis4merError:
                _print(text)
                raise


def _print(text: str) -> None:
    click.echo(_encode(text), nl=False)


def _encode(text: str) -> bytes:
    """UTF-8 whatever the locale says; a file name that is not UTF-8 comes out as it went in."""
    return text.encode("utf-8", "surrogateescape")
