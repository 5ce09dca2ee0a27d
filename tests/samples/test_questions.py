"""The answer to each question depends on the decisive scenes, which lie the gap apart, and on nothing less."""

import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from samples.generator.film import Format, render
from samples.generator.questions import DURATION, GAPS, QUESTIONS, write_script
from samples.generator.scenes import CHARACTERS, DoorScene, Passing, Script

COUNT = 1000


@pytest.fixture(scope="module")
def scripts() -> dict[str, list[tuple[int, Script]]]:
    return {name: [(gap, write_script(name, gap, seed)) for gap in GAPS for seed in range(COUNT)] for name in QUESTIONS}


def doors(script: Script) -> list[DoorScene]:
    return [scene for scene in script.scenes if isinstance(scene, DoorScene)]


def answer(question: str, guests: list[str]) -> str:
    """Returns the answer of a viewer who remembers everything."""
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
def test_answer_follows_from_the_guests(scripts: dict[str, list[tuple[int, Script]]], question: str) -> None:
    for _, script in scripts[question]:
        assert script.label == answer(question, [scene.character for scene in doors(script)])


@pytest.mark.parametrize("question", QUESTIONS)
def test_decisive_scenes_are_the_gap_apart(scripts: dict[str, list[tuple[int, Script]]], question: str) -> None:
    for gap, script in scripts[question]:
        assert script.scenes[0].start == 0
        assert script.duration == DURATION
        for before, after in itertools.pairwise(script.scenes):
            assert before.end == after.start
            places = [scene.place for scene in (before, after) if isinstance(scene, Passing)]
            assert len(places) < 2 or places[0] != places[1]
        shown = doors(script)
        before, after = (shown[1], shown[2]) if question == "story" else (shown[0], shown[-1])
        assert after.start - before.end == gap
        assert all(scene.end - scene.start == 4 for scene in shown)


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_equally_frequent(scripts: dict[str, list[tuple[int, Script]]], question: str) -> None:
    for gap in GAPS:
        counts = Counter(script.label for of, script in scripts[question] if of == gap)
        expected = COUNT / len(QUESTIONS[question].labels)
        assert set(counts) == set(QUESTIONS[question].labels)
        assert all(abs(count - expected) < 4 * np.sqrt(expected) for count in counts.values())


@pytest.mark.parametrize(("question", "each"), [("returns", 1), ("story", 2)])
def test_one_side_of_the_gap_does_not_reveal_the_answer(
    scripts: dict[str, list[tuple[int, Script]]], question: str, each: int
) -> None:
    for side in (slice(0, each), slice(each, None)):
        counts = Counter((tuple(scene.character for scene in doors(t)[side]), t.label) for _, t in scripts[question])
        seen = {guests for guests, _ in counts}
        expected = len(scripts[question]) / len(seen) / 2
        for pair in itertools.product(seen, QUESTIONS[question].labels):
            assert abs(counts[pair] - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("question", ["order", "story"])
def test_only_the_order_of_the_scenes_reveals_the_answer(
    scripts: dict[str, list[tuple[int, Script]]], question: str
) -> None:
    """Movies of both answers have the same scenes, so a mean over time cannot distinguish them."""
    bags = Counter(
        (frozenset((s.act, s.character) for s in doors(script)), script.label) for _, script in scripts[question]
    )
    seen = {bag for bag, _ in bags}
    expected = len(scripts[question]) / len(seen) / 2
    for pair in itertools.product(seen, QUESTIONS[question].labels):
        assert abs(bags[pair] - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("question", QUESTIONS)
def test_fillers_do_not_reveal_the_answer(scripts: dict[str, list[tuple[int, Script]]], question: str) -> None:
    """A linear classifier on the passers-by and the times of the door scenes stays at chance."""
    labels = QUESTIONS[question].labels
    facts = np.array([_facts(script) for _, script in scripts[question]])
    wanted = np.array([labels.index(script.label) for _, script in scripts[question]])
    order = np.random.default_rng(0).permutation(len(facts))
    facts, wanted, half = facts[order], wanted[order], len(facts) // 2
    x = np.hstack([(facts - facts.mean(axis=0)) / (facts.std(axis=0) + 1e-9), np.ones((len(facts), 1))])
    y = np.eye(len(labels))[wanted]
    weights = np.linalg.solve(x[:half].T @ x[:half] + 1e-3 * np.eye(x.shape[1]), x[:half].T @ y[:half])
    share = np.mean((x[half:] @ weights).argmax(axis=1) == wanted[half:])
    chance = 1 / len(labels)
    assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / half)


def _facts(script: Script) -> list[float]:
    passings = [scene for scene in script.scenes if isinstance(scene, Passing)]
    walkers = Counter(walk.character for scene in passings for walk in scene.walks)
    first, last = doors(script)[0], doors(script)[-1]
    return [first.start, last.end, len(script.scenes), first.entry, last.entry, *(walkers[c] for c in CHARACTERS)]


def test_repertoires_share_no_scene() -> None:
    first, second = (_shown(range(start, start + 200)) for start in (0, 1_000_000))
    assert not first & second
    fillers = {scene for scene in first if isinstance(scene, Passing)}
    assert len(fillers) <= 1200 < 200 * 20  # many movies, the same fillers


def _shown(seeds: range) -> set[object]:
    return {
        replace(scene, start=0, end=scene.end - scene.start)
        for seed in seeds
        for scene in write_script("story", 20, seed).scenes
    }


def test_a_scene_looks_the_same_anywhere_in_a_movie() -> None:
    script, form = write_script("returns", 10, 5), Format(fps=1, width=64, height=36)
    frames = list(render(script, form))
    for scene in script.scenes:
        alone = Script(0, "", (replace(scene, start=0, end=scene.end - scene.start),))
        assert np.array_equal(list(render(alone, form)), frames[int(scene.start) : int(scene.end)])


def test_seed_question_and_gap_determine_the_script() -> None:
    assert write_script("count", 20, 7) == write_script("count", 20, 7)
    assert len({write_script(q, gap, seed).scenes for q in QUESTIONS for gap in (20, 40) for seed in range(9)}) == 72


@pytest.mark.parametrize("gap", [9, 81])
def test_a_gap_out_of_range_is_an_error(gap: int) -> None:
    with pytest.raises(ValueError, match=rf"^gap={gap}: must be from 10 to 80 seconds$"):
        write_script("returns", gap, 0)


def test_make_movie_writes_the_movie_of_a_question(samples: Path, tmp_path: Path) -> None:
    movie = tmp_path / "movie.mp4"
    command = [sys.executable, "-m", "samples.generator.make_movie"]
    command += ["--question", "order", "--fps", "1", "--size", "64x36"]
    done = subprocess.run(
        [*command, "--gap", "80", "--seed", "3", "-o", movie],
        cwd=samples.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{movie}: {write_script('order', 80, 3).label}, 112.0 s\n"
    with av.open(str(movie)) as container:
        assert container.streams.video[0].frames == 112
    wrong = subprocess.run([*command, "--gap", "8", "-o", movie], cwd=samples.parent, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("error: --gap=8: must be from 10 to 80 seconds\n")
