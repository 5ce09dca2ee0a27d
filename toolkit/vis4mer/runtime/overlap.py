"""Stages of a pipeline that work at the same time, each a little ahead of the one after it."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


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
        # All stages share one condition: every wait depends on a neighbouring stage or on `_closed`, and with a few
        # threads waking them all costs nothing.
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

    def ahead(self, *sources: Iterable[T]) -> "Ahead[T]":
        """Starts a thread for each source, which iterates over it, and returns an iterator over all their items."""
        stage = Ahead[T](len(sources), self._changed, lambda: self._closed)
        for number, source in enumerate(sources):
            # Daemons do not keep the interpreter from exiting if a generator that holds this block is never closed.
            # Such a generator is not resumed, so its threads soon wait for their items to be taken.
            thread = threading.Thread(target=stage.run, args=(number, source), name="vis4mer-stage", daemon=True)
            thread.start()
            self._threads.append(thread)
        return stage


class _ClosedError(Exception):
    """Ends a stage whose pipeline is closed."""


@dataclass(frozen=True)
class _Failure:
    """Stands for the exception that ended a source."""

    error: BaseException


class Ahead(Iterator[T]):
    """Items of one or more sources, in the order in which they were made.

    Each source has at most one item waiting, which is enough to keep both sides busy. So of several items that wait, no
    two come from one source, and they may be taken in any order.
    """

    def __init__(self, n_sources: int, changed: threading.Condition, closed: Callable[[], bool]) -> None:
        self._running, self._changed, self._closed = n_sources, changed, closed
        # Items that wait to be taken, each with the number of its source.
        self._ready: deque[tuple[int, T | _Failure]] = deque()

    def run(self, number: int, source: Iterable[T]) -> None:
        """Iterates over a source until the end, an exception, or the pipeline's closing."""
        failure = None
        try:
            for item in source:
                self._put(number, item)
                # The consumer owns the item now. A reference here would keep its memory while the next one is made.
                del item
        except _ClosedError:
            # Raised by this stage's own wait, or by the stage before it: nobody is left to take the items. Returning
            # drops the source, and so a generator ends here, in the thread that has run it.
            pass
        except BaseException as error:  # KeyboardInterrupt and MemoryError too: the consumer must not wait for ever
            failure = _Failure(error)
        with self._changed:
            if failure is not None:
                self._ready.append((number, failure))
            self._running -= 1
            self._changed.notify_all()

    def _put(self, number: int, item: T) -> None:
        """Waits until the consumer has taken the source's item before, then makes this one ready."""
        with self._changed:
            self._wait(lambda: all(source != number for source, _ in self._ready))
            self._ready.append((number, item))
            self._changed.notify_all()

    def __next__(self) -> T:
        with self._changed:
            self._wait(lambda: bool(self._ready) or not self._running)
            if not self._ready:
                raise StopIteration
            _, item = self._ready.popleft()
            self._changed.notify_all()
        if isinstance(item, _Failure):
            raise item.error
        return item

    def take_ready(self, accept: Callable[[T], bool]) -> list[T]:
        """Takes the items that are ready now and that `accept` returns true for, without waiting for others.

        Args:
            accept: Called once with each item that is ready, the oldest first.
        """
        taken: list[T] = []
        with self._changed:
            # Each of the items is looked at once, and goes back to the end of the queue unless it is taken.
            for _ in range(len(self._ready)):
                number, item = self._ready.popleft()
                if isinstance(item, _Failure) or not accept(item):
                    self._ready.append((number, item))
                else:
                    taken.append(item)
            self._changed.notify_all()
        return taken

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, with the lock held.

        Raises:
            _ClosedError: The pipeline was closed, which takes precedence over items that are ready.
        """
        self._changed.wait_for(lambda: condition() or self._closed())
        if self._closed():
            raise _ClosedError
