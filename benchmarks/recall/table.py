"""The results of the runs as rows and as a printed table."""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from benchmarks.harness.progress import show
from benchmarks.recall.runs import Journal, Run, Size
from samples.generator.questions import GAPS


def tabulate(journal: Journal, size: Size, questions: Iterable[str], entrants: Iterable[str]) -> list[dict[str, Any]]:
    """Returns a row for every question and entrant: accuracies [seeds] by gap, at the rate with the best validation."""
    return [_row(journal, size, question, entrant) for question in questions for entrant in entrants]


def _row(journal: Journal, size: Size, question: str, entrant: str) -> dict[str, Any]:
    lr = journal.best_rate(question, entrant)
    results = [journal.results[Run(question, entrant, seed, lr)] for seed in range(size.seeds)]
    return {
        "question": question,
        "entrant": entrant,
        "lr": lr,
        "accuracy": {str(gap): [result["accuracy"][str(gap)] for result in results] for gap in GAPS},
        "parameters": results[0]["parameters"],
        "cpu_seconds": round(fmean(result["seconds"] for result in results), 1),
    }


def show_rows(rows: list[dict[str, Any]], memory: Mapping[str, float]) -> None:
    """Prints the mean accuracy over the seeds by gap, with the least and the greatest where these differ.

    Args:
        rows: Rows of `tabulate`.
        memory: Peak memory of a training step in MB, by entrant.
    """
    gaps = "".join(f"{f'{gap} s':>19}" for gap in GAPS)
    show(f"{'question':<8} {'model':<23}{gaps} {'params':>8} {'train, s':>9} {'peak, MB':>9}")
    for row in rows:
        cells = "".join(f"{_cell(values):>19}" for values in row["accuracy"].values())
        costs = f"{row['parameters']:8} {row['cpu_seconds']:9.1f} {memory[row['entrant']]:9.1f}"
        show(f"{row['question']:<8} {row['entrant']:<23}{cells} {costs}")


def _cell(values: list[float]) -> str:
    mean = f"{100 * fmean(values):.1f}"
    return mean if min(values) == max(values) else f"{mean} ({100 * min(values):.0f}-{100 * max(values):.0f})"
