"""Scripts: movies as sequences of scenes, before anything is drawn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Character = Literal["poppy", "bolt", "sunny", "fern"]
Place = Literal["meadow", "town", "beach", "snow", "night"]
Act = Literal["leaving", "arriving"]

CHARACTERS: tuple[Character, ...] = ("poppy", "bolt", "sunny", "fern")
PLACES: tuple[Place, ...] = ("meadow", "town", "beach", "snow", "night")

DOOR_SECONDS = 4.5
"""Length of a whole act at the door, leaving or arriving."""


@dataclass(frozen=True)
class Card:
    """A title card.

    Attributes:
        start: Start in seconds of the movie.
        end: End in seconds of the movie.
        text: Title.
    """

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class DoorScene:
    """Somebody leaves the cottage, or arrives at it.

    Attributes:
        start: Start in seconds of the movie.
        end: End in seconds of the movie.
        act: Whether the character leaves or arrives.
        character: Character at the door.
        entry: Seconds of the act that are over when the scene begins.
    """

    start: float
    end: float
    act: Act
    character: Character
    entry: float = 0.0


@dataclass(frozen=True)
class Walk:
    """The way of one passer-by across a scene.

    Attributes:
        character: Character who passes by.
        x0: Position at the start of the scene, in widths of the picture; outside [0, 1] is out of sight.
        x1: Position at the end of the scene, likewise.
        height: Height of the character, in heights of the picture.
        phase: Phase of the steps, in [0, 1).
    """

    character: Character
    x0: float
    x1: float
    height: float
    phase: float


@dataclass(frozen=True)
class Passing:
    """Characters pass by at a place other than the cottage.

    Attributes:
        start: Start in seconds of the movie.
        end: End in seconds of the movie.
        place: Place of the scene.
        walks: Passers-by, from the farthest to the nearest.
        decor: Seed of the background's details.
    """

    start: float
    end: float
    place: Place
    walks: tuple[Walk, ...]
    decor: int


Scene = Card | DoorScene | Passing


@dataclass(frozen=True)
class Script:
    """A whole movie before it is drawn.

    Attributes:
        seed: Seed that determines everything else.
        label: Correct answer to the question that the movie asks.
        scenes: Scenes in order, each beginning where the one before ends.
    """

    seed: int
    label: str
    scenes: tuple[Scene, ...]

    @property
    def duration(self) -> float:
        """Length of the movie in seconds."""
        return self.scenes[-1].end

    def scene_at(self, seconds: float) -> Scene:
        """Returns the scene shown at `seconds`; beyond the end, the last scene."""
        return next((scene for scene in self.scenes if seconds < scene.end), self.scenes[-1])

    def at_door(self, seconds: float) -> Character | None:
        """Returns the character at the cottage's door at `seconds`, if there is one."""
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
