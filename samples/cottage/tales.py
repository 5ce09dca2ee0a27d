"""Four questions that only memory answers, about movies of one length and with the telling moments a chosen time apart.

`returns`: the cottage's guest leaves; is it the same who arrives after the gap?
`order`:   Poppy and Bolt arrive, the gap between them: who is first?
`count`:   three guests arrive, the first and the last the gap apart; how many of them are Poppy?
`story`:   two leave one after the other, and arrive after the gap: in the same order, or the other way round?

Before, between and after the telling scenes, passers-by fill the time. No part of a movie shorter than the gap tells
the answer of `returns`, `order` or `story`, nor does anything but the telling scenes; single guests of `count` make
counts likelier or less likely. Cuts fall on whole seconds, and fillers come from a repertoire that many movies share.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cottage.scenes import CHARACTERS, PLACES, Act, Character, DoorScene, Passing, Scene, Tale, random_walks

GAPS = (10, 20, 40, 80)
"""Seconds from the first telling scenes' end to the last ones' start, as they are measured."""

DURATION = 112
"""Of every movie, in seconds."""

MIN_GAP, MAX_GAP = 10, DURATION - 32

_DOOR_SECONDS = 4
_FILLER_SECONDS = (3, 4, 5)
_FILLERS = 400  # of each length in a repertoire
_ENTRIES = 16  # moments at which a repertoire's door scenes begin
_REPERTOIRE = 1_000_000  # consecutive seeds share fillers

_Event = tuple[Act, Character]


class _Plot(NamedTuple):
    """Door scenes before the gap, within it (at most one) and after it, and the answer they make."""

    label: str
    before: tuple[_Event, ...]
    within: tuple[_Event, ...]
    after: tuple[_Event, ...]


class Question(NamedTuple):
    """One of the four.

    Attributes:
        labels: the possible answers, equally frequent.
        plot: draws what happens.
    """

    labels: tuple[str, ...]
    plot: Callable[[np.random.Generator], _Plot]


def tell(question: str, gap: int, seed: int) -> Tale:
    """Makes the movie that asks `question` and belongs to `seed`.

    Args:
        question: a key of `QUESTIONS`.
        gap: seconds between the telling scenes, from MIN_GAP to MAX_GAP.
        seed: non-negative; a million consecutive seeds, from a multiple of it, share one repertoire of fillers.
    """
    if not MIN_GAP <= gap <= MAX_GAP:
        raise ValueError(f"gap={gap}: must be from {MIN_GAP} to {MAX_GAP} seconds")
    streams = [np.random.default_rng([list(QUESTIONS).index(question), gap, seed, stream]) for stream in range(2)]
    plot, (plotting, filling) = QUESTIONS[question].plot(streams[0]), streams
    film = _Film(seed // _REPERTOIRE, filling)
    spare = DURATION - gap - _DOOR_SECONDS * (len(plot.before) + len(plot.after))
    lead = int(plotting.choice([n for n in range(spare + 1) if _fillable(n) and _fillable(spare - n)]))
    film.pass_by(lead)
    film.at_door(plot.before)
    rest = gap - _DOOR_SECONDS * len(plot.within)
    first = int(plotting.integers(3, rest - 2)) if plot.within else 0
    film.pass_by(first)
    film.at_door(plot.within)
    film.pass_by(rest - first)
    film.at_door(plot.after)
    film.pass_by(spare - lead)
    return Tale(seed, plot.label, tuple(film.scenes))


class _Film:
    """Scenes put one after the other."""

    def __init__(self, repertoire: int, rng: np.random.Generator) -> None:
        self.scenes: list[Scene] = []
        self._repertoire, self._rng, self._end = repertoire, rng, 0

    def at_door(self, events: tuple[_Event, ...]) -> None:
        """Appends door scenes, each entered at some moment of the act."""
        for act, character in events:
            start, self._end = self._end, self._end + _DOOR_SECONDS
            entry = _entries(self._repertoire)[self._rng.integers(_ENTRIES)]
            self.scenes.append(DoorScene(start, self._end, act, character, entry))

    def pass_by(self, seconds: int) -> None:
        """Appends fillers of `seconds` together, never twice in a row at one place."""
        while seconds:
            length = int(self._rng.choice([n for n in _FILLER_SECONDS if n <= seconds and _fillable(seconds - n)]))
            last = self.scenes[-1] if self.scenes else None
            while True:
                filler = _filler(self._repertoire, length, int(self._rng.integers(_FILLERS)))
                if not (isinstance(last, Passing) and last.place == filler.place):
                    break
            start, self._end = self._end, self._end + length
            self.scenes.append(replace(filler, start=start, end=self._end))
            seconds -= length


def _fillable(seconds: int) -> bool:
    return seconds == 0 or seconds >= min(_FILLER_SECONDS)


@lru_cache(maxsize=8)
def _entries(repertoire: int) -> list[float]:
    return np.random.default_rng([repertoire, 0]).uniform(0, 1, size=_ENTRIES).tolist()


@lru_cache(maxsize=4 * len(_FILLER_SECONDS) * _FILLERS)
def _filler(repertoire: int, length: int, number: int) -> Passing:
    rng = np.random.default_rng([repertoire, length, number])
    return Passing(0, length, PLACES[rng.integers(len(PLACES))], random_walks(rng), int(rng.integers(2**31)))


def _two(rng: np.random.Generator) -> tuple[Character, Character]:
    first, second = rng.choice(len(CHARACTERS), size=2, replace=False)
    return CHARACTERS[first], CHARACTERS[second]


def _returns(rng: np.random.Generator) -> _Plot:
    lead, other = _two(rng)
    same = rng.random() < 0.5
    return _Plot("returns" if same else "stranger", (("leaving", lead),), (), (("arriving", lead if same else other),))


def _order(rng: np.random.Generator) -> _Plot:
    pair: tuple[Character, Character] = ("poppy", "bolt") if rng.random() < 0.5 else ("bolt", "poppy")
    return _Plot(pair[0], (("arriving", pair[0]),), (), (("arriving", pair[1]),))


def _count(rng: np.random.Generator) -> _Plot:
    count = int(rng.integers(4))
    others = CHARACTERS[1:]
    guests = ["poppy"] * count + [others[rng.integers(3)] for _ in range(3 - count)]
    first, second, third = ((("arriving", guests[index]),) for index in rng.permutation(3))
    return _Plot(QUESTIONS["count"].labels[count], first, second, third)


def _story(rng: np.random.Generator) -> _Plot:
    first, second = _two(rng)
    same = rng.random() < 0.5
    arriving = (first, second) if same else (second, first)
    return _Plot(
        "same order" if same else "reversed",
        (("leaving", first), ("leaving", second)),
        (),
        (("arriving", arriving[0]), ("arriving", arriving[1])),
    )


QUESTIONS = {
    "returns": Question(("returns", "stranger"), _returns),
    "order": Question(("poppy", "bolt"), _order),
    "count": Question(("never", "once", "twice", "thrice"), _count),
    "story": Question(("same order", "reversed"), _story),
}
"""By name."""
