"""The answer of each question follows from the telling scenes, which lie the gap apart, and from nothing less."""

import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from cottage.film import Format, render
from cottage.scenes import CHARACTERS, DoorScene, Passing, Tale
from cottage.tales import DURATION, GAPS, QUESTIONS, tell

COUNT = 1000


@pytest.fixture(scope="module")
def tales() -> dict[str, list[tuple[int, Tale]]]:
    return {name: [(gap, tell(name, gap, seed)) for gap in GAPS for seed in range(COUNT)] for name in QUESTIONS}


def doors(tale: Tale) -> list[DoorScene]:
    return [scene for scene in tale.scenes if isinstance(scene, DoorScene)]


def answer(question: str, guests: list[str]) -> str:
    """What a spectator who remembers everything says."""
    match question:
        case "returns":
            return "returns" if guests[0] == guests[1] else "stranger"
        case "order":
            return "poppy" if guests.index("poppy") < guests.index("bolt") else "bolt"
        case "count":
            return {0: "never", 1: "once", 2: "twice", 3: "thrice"}[guests.count("poppy")]
        case _:
            return "same order" if guests[:2] == guests[2:] else "reversed"


@pytest.mark.parametrize("question", QUESTIONS)
def test_answer_follows_from_the_guests(tales: dict[str, list[tuple[int, Tale]]], question: str) -> None:
    for _, tale in tales[question]:
        assert tale.label == answer(question, [scene.character for scene in doors(tale)])


@pytest.mark.parametrize("question", QUESTIONS)
def test_telling_scenes_are_the_gap_apart(tales: dict[str, list[tuple[int, Tale]]], question: str) -> None:
    for gap, tale in tales[question]:
        assert tale.scenes[0].start == 0
        assert tale.duration == DURATION
        for before, after in itertools.pairwise(tale.scenes):
            assert before.end == after.start
            places = [scene.place for scene in (before, after) if isinstance(scene, Passing)]
            assert len(places) < 2 or places[0] != places[1]
        shown = doors(tale)
        before, after = (shown[1], shown[2]) if question == "story" else (shown[0], shown[-1])
        assert after.start - before.end == gap
        assert all(scene.end - scene.start == 4 for scene in shown)


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_equally_frequent(tales: dict[str, list[tuple[int, Tale]]], question: str) -> None:
    for gap in GAPS:
        counts = Counter(tale.label for of, tale in tales[question] if of == gap)
        expected = COUNT / len(QUESTIONS[question].labels)
        assert set(counts) == set(QUESTIONS[question].labels)
        assert all(abs(count - expected) < 4 * np.sqrt(expected) for count in counts.values())


@pytest.mark.parametrize(("question", "each"), [("returns", 1), ("story", 2)])
def test_nothing_on_one_side_of_the_gap_tells(
    tales: dict[str, list[tuple[int, Tale]]], question: str, each: int
) -> None:
    for side in (slice(0, each), slice(each, None)):
        counts = Counter((tuple(scene.character for scene in doors(t)[side]), t.label) for _, t in tales[question])
        seen = {guests for guests, _ in counts}
        expected = len(tales[question]) / len(seen) / 2
        for pair in itertools.product(seen, QUESTIONS[question].labels):
            assert abs(counts[pair] - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("question", ["order", "story"])
def test_only_the_order_of_the_scenes_tells(tales: dict[str, list[tuple[int, Tale]]], question: str) -> None:
    """The same scenes are in the movies of either answer, so a mean over time cannot know."""
    bags = Counter((frozenset((s.act, s.character) for s in doors(tale)), tale.label) for _, tale in tales[question])
    seen = {bag for bag, _ in bags}
    expected = len(tales[question]) / len(seen) / 2
    for pair in itertools.product(seen, QUESTIONS[question].labels):
        assert abs(bags[pair] - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("question", QUESTIONS)
def test_fillers_do_not_tell(tales: dict[str, list[tuple[int, Tale]]], question: str) -> None:
    """A linear classifier on who passes by where, and when the doors are, stays at chance."""
    labels = QUESTIONS[question].labels
    facts = np.array([_facts(tale) for _, tale in tales[question]])
    wanted = np.array([labels.index(tale.label) for _, tale in tales[question]])
    order = np.random.default_rng(0).permutation(len(facts))
    facts, wanted, half = facts[order], wanted[order], len(facts) // 2
    x = np.hstack([(facts - facts.mean(axis=0)) / (facts.std(axis=0) + 1e-9), np.ones((len(facts), 1))])
    y = np.eye(len(labels))[wanted]
    weights = np.linalg.solve(x[:half].T @ x[:half] + 1e-3 * np.eye(x.shape[1]), x[:half].T @ y[:half])
    share = np.mean((x[half:] @ weights).argmax(axis=1) == wanted[half:])
    chance = 1 / len(labels)
    assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / half)


def _facts(tale: Tale) -> list[float]:
    passings = [scene for scene in tale.scenes if isinstance(scene, Passing)]
    walkers = Counter(walk.character for scene in passings for walk in scene.walks)
    first, last = doors(tale)[0], doors(tale)[-1]
    return [first.start, last.end, len(tale.scenes), first.entry, last.entry, *(walkers[c] for c in CHARACTERS)]


def test_repertoires_share_no_scene() -> None:
    first, second = (_shown(range(start, start + 200)) for start in (0, 1_000_000))
    assert not first & second
    fillers = {scene for scene in first if isinstance(scene, Passing)}
    assert len(fillers) <= 1200 < 200 * 20  # many movies, the same fillers


def _shown(seeds: range) -> set[object]:
    return {
        replace(scene, start=0, end=scene.end - scene.start)
        for seed in seeds
        for scene in tell("story", 20, seed).scenes
    }


def test_a_scene_looks_the_same_wherever_it_is_cut_in() -> None:
    tale, form = tell("returns", 10, 5), Format(fps=1, width=64, height=36)
    frames = list(render(tale, form))
    for scene in tale.scenes:
        alone = Tale(0, "", (replace(scene, start=0, end=scene.end - scene.start),))
        assert np.array_equal(list(render(alone, form)), frames[int(scene.start) : int(scene.end)])


def test_seed_question_and_gap_determine_the_tale() -> None:
    assert tell("count", 20, 7) == tell("count", 20, 7)
    assert len({tell(q, gap, seed).scenes for q in QUESTIONS for gap in (20, 40) for seed in range(9)}) == 72


@pytest.mark.parametrize("gap", [9, 81])
def test_gap_out_of_range_is_refused(gap: int) -> None:
    with pytest.raises(ValueError, match=rf"^gap={gap}: must be from 10 to 80 seconds$"):
        tell("returns", gap, 0)


def test_make_movie_asks_the_question(samples: Path, tmp_path: Path) -> None:
    movie = tmp_path / "movie.mp4"
    command = [sys.executable, samples / "make_movie.py", "--question", "order", "--fps", "1", "--size", "64x36"]
    done = subprocess.run(
        [*command, "--gap", "80", "--seed", "3", "-o", movie], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{movie}: {tell('order', 80, 3).label}, 112.0 s\n"
    with av.open(str(movie)) as container:
        assert container.streams.video[0].frames == 112
    wrong = subprocess.run([*command, "--gap", "8", "-o", movie], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("error: --gap=8: must be from 10 to 80 seconds\n")
