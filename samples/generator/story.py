"""The sample's stories, each determined by its seed.

Somebody leaves the cottage. For more than 40 s the same characters pass by elsewhere. Then somebody arrives at the
cottage. The label is whether it is the one who left. Neither door scene reveals the label by itself, and nothing else
does: who leaves, who arrives, who passes by and how the movie is cut are each drawn independently of the label.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from samples.generator.scenes import (
    CHARACTERS,
    DOOR_SECONDS,
    PLACES,
    Card,
    Character,
    DoorScene,
    Passing,
    Place,
    Scene,
    Script,
    random_walks,
)

Label = Literal["returns", "stranger"]

LABELS: tuple[Label, ...] = ("returns", "stranger")

WINDOW_SECONDS = 60.0
MIN_SECONDS, MAX_SECONDS = 60.0, 90.0
MIN_GAP_SECONDS, MAX_GAP_SECONDS = 40.0, 45.0
TITLE_SECONDS = 2.0
SCENE_SECONDS = 4.5
MIN_DECISIVE_SECONDS, MIN_DECISIVE_SHARE = 3.0, 0.4


@dataclass(frozen=True)
class Story(Script):
    """Script of a movie like the sample's.

    Attributes:
        label: ``returns`` if the one who left arrives, else ``stranger``.
        leaving: First door scene.
        arriving: Second door scene.
    """

    label: Label
    leaving: DoorScene
    arriving: DoorScene

    @classmethod
    def from_seed(cls, seed: int) -> "Story":
        """Returns the story of a non-negative seed."""
        plot, timing, filling = (np.random.default_rng([seed, stream]) for stream in range(3))
        label, lead, visitor = _plot(plot)
        duration, leave, arrive = _timing(timing)
        leaving = DoorScene(leave, leave + DOOR_SECONDS, "leaving", lead)
        arriving = DoorScene(arrive, arrive + DOOR_SECONDS, "arriving", visitor)
        scenes: tuple[Scene, ...] = (
            Card(0.0, TITLE_SECONDS, "Who comes home?"),
            *_passings(filling, TITLE_SECONDS, leaving.start),
            leaving,
            *_passings(filling, leaving.end, arriving.start),
            arriving,
            *_passings(filling, arriving.end, duration),
        )
        return cls(seed, label, scenes, leaving, arriving)

    @property
    def gap(self) -> float:
        """Time from the end of the first door scene to the start of the second, in seconds."""
        return self.arriving.start - self.leaving.end

    def decisive_starts(self) -> tuple[float, float]:
        """Returns the earliest and the latest start, in seconds, of a window that holds both door scenes entirely."""
        return _decisive_starts(self.duration, self.leaving.start, self.arriving.start)


def _plot(rng: np.random.Generator) -> tuple[Label, Character, Character]:
    """Draws label, lead and visitor. Each of the two alone is uniform over the characters for either label."""
    lead, other = rng.choice(len(CHARACTERS), size=2, replace=False)
    label = LABELS[rng.integers(len(LABELS))]
    return label, CHARACTERS[lead], CHARACTERS[lead if label == "returns" else other]


def _timing(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws the duration and the starts of the door scenes so that enough of the windows hold both."""
    while True:
        duration = rng.uniform(MIN_SECONDS, MAX_SECONDS)
        leave = rng.uniform(TITLE_SECONDS + 2, duration / 2)
        arrive = leave + DOOR_SECONDS + rng.uniform(MIN_GAP_SECONDS, MAX_GAP_SECONDS)
        first, last = _decisive_starts(duration, leave, arrive)
        fits = arrive + DOOR_SECONDS + 2 <= duration
        needed = max(MIN_DECISIVE_SECONDS, MIN_DECISIVE_SHARE * (duration - WINDOW_SECONDS))
        if fits and last - first >= needed:
            return duration, leave, arrive


def _decisive_starts(duration: float, leave: float, arrive: float) -> tuple[float, float]:
    return max(0.0, arrive + DOOR_SECONDS - WINDOW_SECONDS), min(leave, duration - WINDOW_SECONDS)


def _passings(rng: np.random.Generator, start: float, end: float) -> list[Passing]:
    """Fills the time from `start` to `end` with scenes of passers-by, consecutive ones at different places."""
    count = max(1, round((end - start) / SCENE_SECONDS))
    lengths = rng.uniform(0.7, 1.3, size=count)
    cuts = [start, *(start + (end - start) * np.cumsum(lengths) / lengths.sum())[:-1].tolist(), end]
    places: list[Place] = []
    for _ in range(count):
        places.append(PLACES[rng.choice([i for i, place in enumerate(PLACES) if [place] != places[-1:]])])
    return [Passing(cuts[i], cuts[i + 1], places[i], random_walks(rng), int(rng.integers(2**31))) for i in range(count)]
