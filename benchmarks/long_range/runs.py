"""All runs of the benchmark, each of them kept once it is done, so that one that was interrupted goes on."""

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cottage.tales import GAPS, QUESTIONS
from torch import Tensor

from long_range.contestants import ABLATIONS, CONTESTANTS
from long_range.footage import Footage, Movies
from long_range.training import BATCH, right, train
from vis4mer.training.config import TrainConfig

ENTRANTS = {**CONTESTANTS, **ABLATIONS}

ABLATED_ON = ("returns", "story")
"""Questions that the ablations are asked."""

# Seeds of the movies. Validation movies have the training movies' fillers, test movies have others.
_VAL, _TEST = 500_000, 1_000_000


@dataclass(frozen=True)
class Size:
    """How much is trained and measured.

    Attributes:
        train, val, test: movies for each question and gap.
        epochs: passes over the training movies, of all gaps at once.
        seeds: of initial weights, order and dropout.
    """

    train: int = 400
    val: int = 100
    test: int = 250
    epochs: int = 12
    seeds: int = 3


class Run(NamedTuple):
    """A training run to be done.

    Attributes:
        question: of the movies.
        entrant: a key of `ENTRANTS`.
        seed: of initial weights, order and dropout.
        lr: peak learning rate; of S4's A, B and dt at most 1e-3.
    """

    question: str
    entrant: str
    seed: int
    lr: float


Result = dict[str, Any]
"""`parameters`, CPU `seconds` of training, `val` accuracy, and test accuracy by gap, as `accuracy`."""


class Journal:
    """Results by run, each on its line of a file.

    Args:
        path: of the file, which belongs to one size.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.results: dict[Run, Result] = {Run(*run): result for run, result in map(json.loads, lines)}

    def add(self, run: Run, result: Result) -> None:
        """Keeps a result."""
        self.results[run] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([run, result]) + "\n")

    def best_rate(self, question: str, entrant: str) -> float:
        """The learning rate of the first seed's best validation; among equals, the lowest."""
        tried = {run.lr: r["val"] for run, r in self.results.items() if run[:3] == (question, entrant, 0)}
        return max(sorted(tried), key=tried.__getitem__)


class Studio:
    """The movies of each question, shot when they are first needed."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._footage = Footage()
        self._movies: dict[str, tuple[Movies, Movies, Movies]] = {}
        self._tokens: Tensor | None = None

    def run(self, run: Run) -> Result:
        """Trains and asks."""
        if run.question not in self._movies:
            size, self._tokens = self._size, None
            seeds = (range(size.train), range(_VAL, _VAL + size.val), range(_TEST, _TEST + size.test))
            train_movies, val, test = (self._footage.movies(run.question, GAPS, split) for split in seeds)
            self._movies[run.question] = train_movies, val, test
        if self._tokens is None:
            self._tokens = self._footage.tokens
        movies, val, test = self._movies[run.question]
        entrant, labels = ENTRANTS[run.entrant], QUESTIONS[run.question].labels
        config = TrainConfig(
            epochs=self._size.epochs, batch_size=BATCH, lr=run.lr, ssm_lr=min(run.lr, 1e-3), warmup=0.1, seed=run.seed
        )
        since = time.process_time()
        model = train(entrant, len(labels), movies, self._tokens, config)
        seconds = time.process_time() - since
        correct = right(model, entrant, test, self._tokens).double()
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 1),
            "val": right(model, entrant, val, self._tokens).double().mean().item(),
            "accuracy": {str(gap): correct[test.gaps == gap].mean().item() for gap in GAPS},
        }


def plan(size: Size, journal: Journal) -> Iterator[Run]:
    """Yields all runs: the first seed tries all rates, and the others take the one that validated best."""
    for seed in range(size.seeds):
        for name, entrant in ENTRANTS.items():
            for question in ABLATED_ON if name in ABLATIONS else QUESTIONS:
                for lr in (journal.best_rate(question, name),) if seed else entrant.rates:
                    yield Run(question, name, seed, lr)


def perform(size: Size, folder: Path) -> Journal:
    """Does all runs that the folder's journal lacks."""
    name = "-".join(str(value) for value in dataclasses.astuple(size)[:4])
    journal, studio = Journal(folder / f"runs-{name}.jsonl"), Studio(size)
    for run in plan(size, journal):
        if run not in journal.results:
            journal.add(run, studio.run(run))
            result = journal.results[run]
            shares = "  ".join(f"{share:6.1%}" for share in result["accuracy"].values())
            print(f"{run.question:<8} {run.entrant:<23} seed {run.seed} lr {run.lr:g}: {shares}", flush=True)
    return journal
