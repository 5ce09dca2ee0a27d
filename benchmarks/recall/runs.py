"""The training runs of the benchmark. Each result is kept in a file, so an interrupted benchmark can continue."""

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from benchmarks.harness.progress import progress, show
from benchmarks.recall.entrants import ABLATIONS, ENTRANTS
from benchmarks.recall.tokens import Movies, SceneTokens
from benchmarks.recall.training import BATCH, correct, train
from samples.generator.questions import GAPS, QUESTIONS
from vis4mer.training.config import TrainConfig

ABLATED_ON = ("returns", "story")
"""Questions that the ablations learn."""

# First seeds of the movies. Validation movies share the fillers of the training movies; test movies have others.
_VAL, _TEST = 500_000, 1_000_000


@dataclass(frozen=True)
class Size:
    """Extent of the benchmark.

    Attributes:
        train: Training movies for each question and gap.
        val: Validation movies for each question and gap.
        test: Test movies for each question and gap.
        epochs: Passes over the training movies of all gaps.
        seeds: Number of seeds of initial weights, order and dropout.
    """

    train: int = 400
    val: int = 100
    test: int = 250
    epochs: int = 12
    seeds: int = 3


class Run(NamedTuple):
    """One training run.

    Attributes:
        question: Question of the movies.
        entrant: Key of `ENTRANTS`.
        seed: Seed of initial weights, order and dropout.
        lr: Peak learning rate; that of S4's A, B and dt is at most 1e-3.
    """

    question: str
    entrant: str
    seed: int
    lr: float


Result = dict[str, Any]
"""Number of `parameters`, CPU `seconds` of training, `val` accuracy, and test `accuracy` by gap."""


class Journal:
    """Results by run, kept as the lines of a file.

    Args:
        path: File of one size of the benchmark.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.results: dict[Run, Result] = {Run(*run): result for run, result in map(json.loads, lines)}

    def add(self, run: Run, result: Result) -> None:
        """Adds a result to the file."""
        self.results[run] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([run, result]) + "\n")

    def best_rate(self, question: str, entrant: str) -> float:
        """Returns the learning rate with the best validation accuracy of the first seed; the lowest among equals."""
        tried = {run.lr: r["val"] for run, r in self.results.items() if run[:3] == (question, entrant, 0)}
        return max(sorted(tried), key=tried.__getitem__)


class Trainer:
    """Trains and tests entrants on movies that are drawn when a question first needs them."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._scenes = SceneTokens()
        self._movies: dict[str, tuple[Movies, Movies, Movies]] = {}
        self._tokens: Tensor | None = None

    def run(self, run: Run) -> Result:
        """Trains one entrant on one question, and tests it."""
        movies, val, test = self._splits(run.question)
        tokens = self._tokens = self._scenes.tokens if self._tokens is None else self._tokens
        entrant, labels = ENTRANTS[run.entrant], QUESTIONS[run.question].labels
        config = TrainConfig(
            epochs=self._size.epochs, batch_size=BATCH, lr=run.lr, ssm_lr=min(run.lr, 1e-3), warmup=0.1, seed=run.seed
        )
        since = time.process_time()
        model = train(entrant, len(labels), movies, tokens, config)
        seconds = time.process_time() - since
        tested = correct(model, entrant, test, tokens).double()
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 1),
            "val": correct(model, entrant, val, tokens).double().mean().item(),
            "accuracy": {str(gap): tested[test.gaps == gap].mean().item() for gap in GAPS},
        }

    def _splits(self, question: str) -> tuple[Movies, Movies, Movies]:
        """Returns the training, validation and test movies of a question."""
        if question not in self._movies:
            size, self._tokens = self._size, None  # the tokens of new scenes are added
            seeds = (range(size.train), range(_VAL, _VAL + size.val), range(_TEST, _TEST + size.test))
            train_movies, val, test = (self._scenes.movies(question, GAPS, split) for split in seeds)
            self._movies[question] = train_movies, val, test
        return self._movies[question]


def plan(size: Size, journal: Journal) -> Iterator[Run]:
    """Yields all runs: the first seed tries all rates, and the others use the one with the best validation."""
    for seed in range(size.seeds):
        for name, entrant in ENTRANTS.items():
            for question in _questions(name):
                for lr in (journal.best_rate(question, name),) if seed else entrant.rates:
                    yield Run(question, name, seed, lr)


def count(size: Size) -> int:
    """Returns the number of runs in a plan."""
    return sum(len(_questions(name)) * (len(entrant.rates) + size.seeds - 1) for name, entrant in ENTRANTS.items())


def complete(size: Size, folder: Path) -> Journal:
    """Does all runs that the folder's journal lacks, and returns the journal."""
    name = "-".join(str(value) for value in dataclasses.astuple(size)[:4])
    journal, trainer = Journal(folder / f"runs-{name}.jsonl"), Trainer(size)
    left = count(size) - sum(run.seed < size.seeds for run in journal.results)
    # The plan looks at results when it comes to the second seed, so it must not be listed beforehand.
    pending = (run for run in plan(size, journal) if run not in journal.results)
    for run in progress(pending, lambda run: f"{run.question}, {run.entrant}, seed {run.seed}", total=left):
        journal.add(run, trainer.run(run))
        shares = "  ".join(f"{share:6.1%}" for share in journal.results[run]["accuracy"].values())
        show(f"{run.question:<8} {run.entrant:<23} seed {run.seed} lr {run.lr:g}: {shares}")
    return journal


def _questions(entrant: str) -> tuple[str, ...]:
    return ABLATED_ON if entrant in ABLATIONS else tuple(QUESTIONS)
