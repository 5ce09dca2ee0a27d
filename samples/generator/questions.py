"""Four questions that need memory, about movies of one length whose decisive scenes are a chosen time apart.

- `returns`: A guest leaves the cottage. Does the same guest arrive after the gap?
- `order`: Poppy and Bolt arrive, the gap between them. Who is first?
- `count`: Three guests arrive, the first and the last separated by the gap. How many of them are Poppy?
- `story`: Two leave one after the other, and both arrive after the gap. Do they arrive in the order in which they left?

Passers-by fill the time before, between and after the decisive scenes. No part of a movie shorter than the gap reveals
the answer of `returns`, `order` or `story`, and nothing but the decisive scenes does. Single guests of `count` make
some counts more likely than others. Cuts fall on whole seconds, and fillers come from a repertoire that many movies
share.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from samples.generator.scenes import CHARACTERS, PLACES, Act, Character, DoorScene, Passing, Scene, Script, random_walks

GAPS = (10, 20, 40, 80)
"""Seconds from the end of the first decisive scenes to the start of the last ones, as benchmarked."""

DURATION = 112
"""Length of every movie in seconds."""

MIN_GAP, MAX_GAP = 10, DURATION - 32

_DOOR_SECONDS = 4
_FILLER_SECONDS = (3, 4, 5)
_FILLERS = 400  # scenes of each length in a repertoire
_ENTRIES = 16  # moments of the act at which the door scenes of a repertoire may begin
_REPERTOIRE = 1_000_000  # consecutive seeds that share fillers

_Event = tuple[Act, Character]


class _Plot(NamedTuple):
    """Door scenes before the gap, within it (at most one) and after it, and the answer that they determine."""

    label: str
    before: tuple[_Event, ...]
    within: tuple[_Event, ...]
    after: tuple[_Event, ...]


class Question(NamedTuple):
    """One of the four questions.

    Attributes:
        labels: Possible answers, equally frequent.
        plot: Function that draws the decisive scenes and their answer.
    """

    labels: tuple[str, ...]
    plot: Callable[[np.random.Generator], _Plot]


def write_script(question: str, gap: int, seed: int) -> Script:
    """Returns the movie of `seed` that asks `question`.

    Args:
        question: Key of `QUESTIONS`.
        gap: Seconds between the decisive scenes, from MIN_GAP to MAX_GAP.
        seed: Non-negative seed. Each million of consecutive seeds, from a multiple of a million on, shares one
            repertoire of fillers.

    Raises:
        ValueError: The gap is out of range.
    """
    if not MIN_GAP <= gap <= MAX_GAP:
        raise ValueError(f"gap={gap}: must be from {MIN_GAP} to {MAX_GAP} seconds")
    streams = [np.random.default_rng([list(QUESTIONS).index(question), gap, seed, stream]) for stream in range(2)]
    plot, (plotting, filling) = QUESTIONS[question].plot(streams[0]), streams
    builder = _ScriptBuilder(seed // _REPERTOIRE, filling)
    spare = DURATION - gap - _DOOR_SECONDS * (len(plot.before) + len(plot.after))
    lead = int(plotting.choice([n for n in range(spare + 1) if _fillable(n) and _fillable(spare - n)]))
    builder.pass_by(lead)
    builder.at_door(plot.before)
    rest = gap - _DOOR_SECONDS * len(plot.within)
    first = int(plotting.integers(3, rest - 2)) if plot.within else 0
    builder.pass_by(first)
    builder.at_door(plot.within)
    builder.pass_by(rest - first)
    builder.at_door(plot.after)
    builder.pass_by(spare - lead)
    return Script(seed, plot.label, tuple(builder.scenes))


class _ScriptBuilder:
    """The scenes of a script, appended one by one."""

    def __init__(self, repertoire: int, rng: np.random.Generator) -> None:
        self.scenes: list[Scene] = []
        self._repertoire, self._rng, self._end = repertoire, rng, 0

    def at_door(self, events: tuple[_Event, ...]) -> None:
        """Appends door scenes, each beginning at a random moment of its act."""
        for act, character in events:
            start, self._end = self._end, self._end + _DOOR_SECONDS
            entry = _entries(self._repertoire)[self._rng.integers(_ENTRIES)]
            self.scenes.append(DoorScene(start, self._end, act, character, entry))

    def pass_by(self, seconds: int) -> None:
        """Appends fillers of `seconds` in total, consecutive ones at different places."""
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
    """Returns whether fillers can fill exactly this time."""
    return seconds == 0 or seconds >= min(_FILLER_SECONDS)


@lru_cache(maxsize=8)
def _entries(repertoire: int) -> list[float]:
    entries: list[float] = np.random.default_rng([repertoire, 0]).uniform(0, 1, size=_ENTRIES).tolist()
    return entries


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
    poppy, others = CHARACTERS[0], CHARACTERS[1:]
    guests = [poppy] * count + [others[rng.integers(3)] for _ in range(3 - count)]
    arrivals: list[tuple[_Event, ...]] = [(("arriving", guests[index]),) for index in rng.permutation(3)]
    return _Plot(QUESTIONS["count"].labels[count], *arrivals)


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
"""Questions by name."""
