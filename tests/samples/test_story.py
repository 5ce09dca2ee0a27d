"""A movie's label depends on two events at least 40 s apart, and on nothing less."""

import itertools
from collections import Counter

import numpy as np
import pytest

from samples.generator.film import Format, render
from samples.generator.story import CHARACTERS, LABELS, PLACES, DoorScene, Passing, Story

STORIES = [Story.from_seed(seed) for seed in range(4000)]
TRAINED = len(STORIES) // 2


def test_seed_determines_story() -> None:
    assert [Story.from_seed(story.seed) for story in STORIES[:50]] == STORIES[:50]
    assert len({story.scenes for story in STORIES[:50]}) == 50


def test_scenes_follow_one_another_from_start_to_end() -> None:
    for story in STORIES:
        assert story.scenes[0].start == 0
        assert all(before.end == after.start for before, after in itertools.pairwise(story.scenes))
        assert all(scene.end - scene.start >= 1 for scene in story.scenes)
        assert 60 <= story.duration == story.scenes[-1].end <= 90


def test_the_only_door_scenes_are_at_least_40_s_apart() -> None:
    for story in STORIES:
        assert [scene for scene in story.scenes if isinstance(scene, DoorScene)] == [story.leaving, story.arriving]
        assert (story.leaving.act, story.arriving.act) == ("leaving", "arriving")
        assert story.gap == story.arriving.start - story.leaving.end >= 40


def test_decisive_windows_hold_both_door_scenes() -> None:
    for story in STORIES:
        first, last = story.decisive_starts()
        assert last - first >= 3
        for start in (first, last):
            assert 0 <= start <= start + 60 <= story.duration + 1e-9
            assert start <= story.leaving.start
            assert story.arriving.end <= start + 60 + 1e-9


def test_at_door_returns_the_visible_character() -> None:
    story = STORIES[7]
    assert story.at_door(story.leaving.start) == story.leaving.character
    assert story.at_door(story.arriving.end - 0.01) == story.arriving.character
    assert story.at_door(story.leaving.end) is None
    assert story.at_door(0) is None


def test_label_is_whether_the_same_character_arrives() -> None:
    for story in STORIES:
        assert (story.label == "returns") == (story.leaving.character == story.arriving.character)


@pytest.mark.parametrize("event", ["leaving", "arriving"])
def test_labels_are_balanced_for_every_character_at_the_door(event: str) -> None:
    counts = Counter((getattr(story, event).character, story.label) for story in STORIES)
    expected = len(STORIES) / len(CHARACTERS) / len(LABELS)
    for pair in itertools.product(CHARACTERS, LABELS):
        assert abs(counts[pair] - expected) < 4 * np.sqrt(expected)


def test_no_single_fact_reveals_the_label() -> None:
    """A linear classifier on everything but the pair of guests stays at chance; with the pair it is always correct."""
    facts = np.array([_facts(story) for story in STORIES])
    pairs = np.array([_pair(story) for story in STORIES])
    chance = 4 * np.sqrt(0.25 / (len(STORIES) - TRAINED))  # four standard deviations
    for name, columns in {"all": facts, **{f"fact {i}": facts[:, [i]] for i in range(facts.shape[1])}}.items():
        assert abs(_accuracy(columns) - 0.5) < chance, name
    assert _accuracy(np.hstack([facts, pairs])) == 1


@pytest.mark.slow
def test_mean_colour_does_not_reveal_the_label() -> None:
    stories = STORIES[:600]
    colours = np.array([_mean_colour(story) for story in stories])
    columns = np.hstack([colours, colours**2])
    chance = 4 * np.sqrt(0.25 / (len(stories) // 2))
    assert abs(_accuracy(columns, stories) - 0.5) < chance


def _facts(story: Story) -> list[float]:
    passings = [scene for scene in story.scenes if isinstance(scene, Passing)]
    walkers = Counter(walk.character for scene in passings for walk in scene.walks)
    places = Counter(scene.place for scene in passings)
    return [
        story.duration,
        story.gap,
        story.leaving.start,
        story.arriving.start,
        len(story.scenes),
        *(walkers[character] for character in CHARACTERS),
        *(places[place] for place in PLACES),
        *(story.leaving.character == character for character in CHARACTERS),
        *(story.arriving.character == character for character in CHARACTERS),
    ]


def _pair(story: Story) -> list[float]:
    guests = (story.leaving.character, story.arriving.character)
    return [guests == pair for pair in itertools.product(CHARACTERS, CHARACTERS)]


def _mean_colour(story: Story) -> np.ndarray:
    frames = np.stack(list(render(story, Format(fps=1, width=32, height=18))))
    return frames.mean(axis=(0, 1, 2)) / 255


def _accuracy(columns: np.ndarray, stories: list[Story] = STORIES) -> float:
    """Returns the accuracy on the second half of a ridge classifier that is fitted to the first half."""
    half = len(stories) // 2
    scale = columns[:half].std(axis=0) + 1e-9
    x = np.hstack([(columns - columns[:half].mean(axis=0)) / scale, np.ones((len(columns), 1))])
    y = np.array([1.0 if story.label == "returns" else -1.0 for story in stories])
    gram = x[:half].T @ x[:half] + 1e-3 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[:half].T @ y[:half])
    return float(np.mean(np.sign(x[half:] @ weights) == y[half:]))
