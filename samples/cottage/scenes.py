"""What movies are made of: scenes one after the other, described and not yet drawn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Character = Literal["poppy", "bolt", "sunny", "fern"]
Place = Literal["meadow", "town", "beach", "snow", "night"]
Act = Literal["leaving", "arriving"]

CHARACTERS: tuple[Character, ...] = ("poppy", "bolt", "sunny", "fern")
PLACES: tuple[Place, ...] = ("meadow", "town", "beach", "snow", "night")

DOOR_SECONDS = 4.5
"""What it takes to leave the cottage, or to arrive at it."""


@dataclass(frozen=True)
class Card:
    """A title card.

    Attributes:
        start, end: in seconds of the movie.
        text: what it says.
    """

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class DoorScene:
    """Somebody leaves the cottage, or arrives at it.

    Attributes:
        start, end: in seconds of the movie.
        act: which of the two.
        character: who.
        entry: seconds of the act that are over when the scene begins.
    """

    start: float
    end: float
    act: Act
    character: Character
    entry: float = 0.0


@dataclass(frozen=True)
class Walk:
    """One passer-by's way across a scene.

    Attributes:
        character: who.
        x0, x1: where the walk begins and ends, in widths of the picture; outside [0, 1] is out of sight.
        height: of the character, in heights of the picture.
        phase: of the steps, in [0, 1).
    """

    character: Character
    x0: float
    x1: float
    height: float
    phase: float


@dataclass(frozen=True)
class Passing:
    """Characters pass by somewhere that is not the cottage.

    Attributes:
        start, end: in seconds of the movie.
        place: where.
        walks: who, from the farthest to the nearest.
        decor: seed of the scenery.
    """

    start: float
    end: float
    place: Place
    walks: tuple[Walk, ...]
    decor: int


Scene = Card | DoorScene | Passing


@dataclass(frozen=True)
class Tale:
    """A whole movie before it is drawn.

    Attributes:
        seed: everything else follows from it.
        label: the right answer to the question that the movie asks.
        scenes: in order, each beginning where the one before ends.
    """

    seed: int
    label: str
    scenes: tuple[Scene, ...]

    @property
    def duration(self) -> float:
        """Of the movie, in seconds."""
        return self.scenes[-1].end

    def scene_at(self, seconds: float) -> Scene:
        """Returns the scene shown at `seconds`; the last one from the end on."""
        return next((scene for scene in self.scenes if seconds < scene.end), self.scenes[-1])

    def at_door(self, seconds: float) -> Character | None:
        """Returns who is at the cottage's door at `seconds`, if anybody is."""
        scene = self.scene_at(seconds)
        return scene.character if isinstance(scene, DoorScene) else None


def random_walks(rng: np.random.Generator) -> tuple[Walk, ...]:
    """Draws one to three passers-by, from the farthest to the nearest."""
    walks = []
    for character in rng.choice(len(CHARACTERS), size=rng.integers(1, 4), replace=False):
        x0, x1 = rng.uniform(-0.1, 0.35), rng.uniform(0.65, 1.1)
        if rng.random() < 0.5:
            x0, x1 = x1, x0
        walks.append(Walk(CHARACTERS[character], x0, x1, rng.uniform(0.3, 0.55), rng.random()))
    return tuple(sorted(walks, key=lambda walk: walk.height))
