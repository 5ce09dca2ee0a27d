"""Stages in threads: order, bounds, exceptions, and that no thread is left running."""

import itertools
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from vis4mer.runtime.overlap import Ahead, Overlap

PATIENCE = 30  # seconds after which a wait counts as a deadlock


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_items_come_in_order_through_several_stages() -> None:
    with Overlap() as overlap:
        doubled = overlap.ahead(2 * i for i in overlap.ahead(range(1000)))
        assert list(doubled) == list(range(0, 2000, 2))
        assert next(doubled, None) is None, "an exhausted stage stays exhausted"


def test_an_item_is_made_while_the_one_before_it_is_used() -> None:
    making, using = threading.Event(), threading.Event()

    def make() -> Iterator[int]:
        yield 0
        making.set()
        assert using.wait(PATIENCE)
        yield 1

    with Overlap() as overlap:
        items = overlap.ahead(make())
        assert next(items) == 0
        using.set()
        assert making.wait(PATIENCE)
        assert next(items) == 1


class Item:
    """An object whose lifetime is observed."""


def test_no_more_is_made_than_one_item_ahead() -> None:
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def make() -> Iterator[Item]:
        nonlocal most
        for _ in range(200):
            item = Item()
            alive.add(item)
            most = max(most, len(alive))
            yield item
            del item

    with Overlap() as overlap:
        for item in overlap.ahead(make()):
            time.sleep(0)
            del item
    assert most <= 3, "one in use, one ready and one being made"


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), MemoryError()])
def test_an_exception_comes_after_the_items_before_it(error: BaseException) -> None:
    def fail() -> Iterator[int]:
        yield from range(3)
        raise error

    taken = []
    with pytest.raises(type(error)) as raised, Overlap() as overlap:
        for item in overlap.ahead(i for i in overlap.ahead(fail())):
            taken.append(item)
    assert raised.value is error
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("how", ["break", "exception", "interrupt", "nothing taken"])
def test_leaving_early_ends_every_stage(how: str) -> None:
    closed = []

    def endless(name: str, items: Any = None) -> Iterator[int]:
        try:
            while True:
                yield 0 if items is None else next(items)
        finally:
            closed.append(name)

    def leave() -> None:
        with Overlap() as overlap:
            last = overlap.ahead(endless("second", overlap.ahead(endless("first"))))
            if how == "nothing taken":
                return
            for count, _ in enumerate(last):
                if count == 3:
                    match how:
                        case "break":
                            break
                        case "exception":
                            raise ValueError
                        case "interrupt":
                            raise KeyboardInterrupt

    if how in ("exception", "interrupt"):
        with pytest.raises((ValueError, KeyboardInterrupt)):
            leave()
    else:
        leave()
    assert sorted(closed) == ["first", "second"]


def test_items_of_several_sources_come_in_the_order_of_each() -> None:
    with Overlap() as overlap:
        items = list(overlap.ahead(*([(source, i) for i in range(100)] for source in range(5))))
    assert len(items) == 500
    for source in range(5):
        assert [i for origin, i in items if origin == source] == list(range(100))


def test_a_slow_source_holds_up_no_other() -> None:
    others_taken = threading.Event()

    def slow() -> Iterator[int]:
        assert others_taken.wait(PATIENCE)
        yield -1

    with Overlap() as overlap:
        items = overlap.ahead(slow(), range(50))
        assert [next(items) for _ in range(50)] == list(range(50))
        others_taken.set()
        assert list(items) == [-1]


def test_ready_items_are_taken_without_waiting_if_they_are_accepted() -> None:
    def ready(items: Ahead[int]) -> set[int]:
        seen: set[int] = set()
        items.take_ready(lambda item: seen.add(item) is not None)  # accepts nothing
        return seen

    with Overlap() as overlap:
        items = overlap.ahead([1], [2, 20], [3])
        deadline = time.monotonic() + PATIENCE
        while len(ready(items)) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert ready(items) == {1, 2, 3}, "one item of each source, and none is lost"
        assert sorted(items.take_ready(lambda item: item != 2)) == [1, 3]
        assert list(items) == [2, 20]
        assert items.take_ready(lambda item: True) == []


def test_an_exception_of_one_source_waits_for_its_turn() -> None:
    def fail() -> Iterator[int]:
        yield 0
        raise RuntimeError("broken")

    with Overlap() as overlap:
        items = overlap.ahead(fail(), itertools.repeat(1))
        with pytest.raises(RuntimeError, match="broken"):
            while True:
                items.take_ready(lambda item: True)
                next(items)
        assert next(items) == 1, "the other source goes on"


def test_a_stage_that_waits_for_another_ends_before_it() -> None:
    at_work, ended = threading.Event(), threading.Event()
    woken = []

    def slow() -> Iterator[int]:
        at_work.set()
        woken.append(ended.wait(PATIENCE))
        yield 1

    def waiting(items: Iterator[int]) -> Iterator[int]:
        try:
            yield from items
        finally:
            ended.set()

    with Overlap() as overlap:
        overlap.ahead(waiting(overlap.ahead(slow())))
        assert at_work.wait(PATIENCE)
    assert woken == [True]
