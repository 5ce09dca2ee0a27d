"""Stages of a pipeline that work at the same time, each a little ahead of the one after it."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_AHEAD = 1  # items finished before they are asked for; one is enough to keep both sides at work


class Overlap:
    """Runs iterators in threads of their own, in order: one item lies ready while the next one is made.

    For example::

        with Overlap() as overlap:
            for tokens in overlap.ahead(encode(overlap.ahead(frames))):
                ...

    An iterator's exception is raised where its items are taken, after the items before it. Leaving the block for
    whatever reason ends all threads: those that wait at once, others when their iterator gives its next item.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def ahead(self, items: Iterable[T]) -> Iterator[T]:
        """Starts to iterate over `items`; yields them."""
        stage = _Stage(items, self._changed, lambda: self._closed)
        thread = threading.Thread(target=stage.run, name="vis4mer-stage")
        thread.start()
        self._threads.append(thread)
        return iter(stage)


class _ClosedError(Exception):
    """Ends a stage whose pipeline is closed."""


class _Stage(Iterator[T]):
    """One iterator, its thread's side (`run`) and its taker's (`__next__`)."""

    def __init__(self, items: Iterable[T], changed: threading.Condition, closed: Callable[[], bool]) -> None:
        self._items, self._changed, self._closed = iter(items), changed, closed
        self._ready: deque[T] = deque()
        self._ended = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Iterates until the end, an exception, or the pipeline's closing."""
        try:
            for item in self._items:
                self._put(item)
                del item  # or it would be held while the next one is made
        except _ClosedError:
            pass
        except BaseException as error:  # whatever it is, it is the taker's
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: T) -> None:
        with self._changed:
            self._wait(lambda: len(self._ready) < _AHEAD)
            self._ready.append(item)
            self._changed.notify_all()

    def __next__(self) -> T:
        with self._changed:
            self._wait(lambda: bool(self._ready) or self._ended)
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: ready() or self._closed())
        if self._closed():
            raise _ClosedError
