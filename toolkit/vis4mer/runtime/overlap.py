"""Stages of a pipeline that work at the same time, each a little ahead of the one after it."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_AHEAD = 1  # finished items per stage that wait to be taken; one is enough to keep both sides busy


class Overlap:
    """Runs iterators in threads of their own; each has the next item ready while the current one is in use.

    For example::

        with Overlap() as overlap:
            for tokens in overlap.ahead(encode(overlap.ahead(frames))):
                ...

    An iterator's exception is raised where its items are taken, after the items before it. Leaving the block for any
    reason ends all threads: waiting ones at once, the others as soon as their iterator returns its next item.
    """

    def __init__(self) -> None:
        # All stages share one condition: every wait depends on a neighbouring stage or on `_closed`, and with two or
        # three stages waking them all costs nothing.
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
        # Joining also guarantees that no thread still reads from a video file or a device once the block has ended.
        for thread in self._threads:
            thread.join()

    def ahead(self, items: Iterable[T]) -> Iterator[T]:
        """Starts a thread that iterates over `items`, and returns an iterator over the results."""
        stage = _Stage(items, self._changed, lambda: self._closed)
        thread = threading.Thread(target=stage.run, name="vis4mer-stage")
        thread.start()
        self._threads.append(thread)
        return iter(stage)


class _ClosedError(Exception):
    """Ends a stage whose pipeline is closed."""


class _Stage(Iterator[T]):
    """One iterator with its two sides: the thread that runs it (`run`) and the consumer (`__next__`)."""

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
                # The consumer owns the item now. A reference here would keep its memory while the next one is made.
                del item
        except _ClosedError:
            # Raised by this stage's own wait, or by the stage before it: nobody is left to take the items.
            pass
        except BaseException as error:  # KeyboardInterrupt and MemoryError too: the consumer must not wait for ever
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: T) -> None:
        """Waits until the consumer has taken the item before, then makes this one ready."""
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
        # Only an ended stage gets here, and its thread no longer writes `_error`, so the lock is not needed.
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Waits for `ready`, with the lock held.

        Raises:
            _ClosedError: The pipeline was closed, which takes precedence over items that are ready.
        """
        self._changed.wait_for(lambda: ready() or self._closed())
        if self._closed():
            raise _ClosedError
