"""The runs as tables, as a plot and as a record."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from cottage.tales import GAPS, QUESTIONS

from long_range.contestants import CONTESTANTS
from long_range.runs import Journal, Run, Size

ASKED = {
    "returns": "Does the one who left return?",
    "order": "Who of two came first?",
    "count": "How many of three guests were Poppy?",
    "story": "Did they return in the order they left?",
}


def tabulate(journal: Journal, size: Size, questions: Iterable[str], entrants: Iterable[str]) -> list[dict[str, Any]]:
    """One row for every question and entrant: accuracies [seeds] by gap, at the rate that validated best."""
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
        "cpu_seconds": round(_mean(result["seconds"] for result in results), 1),
    }


def show(rows: list[dict[str, Any]], memory: dict[str, float]) -> None:
    """Prints rows: the mean accuracy over the seeds by gap, with the least and the greatest where they differ."""
    gaps = "".join(f"{f'{gap} s':>19}" for gap in GAPS)
    print(f"{'question':<8} {'model':<23}{gaps} {'params':>8} {'train, s':>9} {'peak, MB':>9}")
    for row in rows:
        cells = "".join(f"{_cell(values):>19}" for values in row["accuracy"].values())
        costs = f"{row['parameters']:8} {row['cpu_seconds']:9.1f} {memory[row['entrant']]:9.1f}"
        print(f"{row['question']:<8} {row['entrant']:<23}{cells} {costs}")


def _cell(values: list[float]) -> str:
    mean = f"{100 * _mean(values):.1f}"
    return mean if min(values) == max(values) else f"{mean} ({100 * min(values):.0f}-{100 * max(values):.0f})"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws accuracy against gap, a panel for each question: means over the seeds, and their range as a band."""
    figure, axes = plt.subplots(1, len(QUESTIONS), figsize=(12, 3.4), sharey=True, layout="constrained")
    styles = dict(zip(CONTESTANTS, ("o-", "s--", "^-.", "v:"), strict=True))
    for ax, question in zip(axes, QUESTIONS, strict=True):
        for row in rows:
            if row["question"] == question:
                values = list(row["accuracy"].values())
                (line,) = ax.plot(GAPS, [100 * _mean(v) for v in values], styles[row["entrant"]], label=row["entrant"])
                low, high = [100 * min(v) for v in values], [100 * max(v) for v in values]
                ax.fill_between(GAPS, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        ax.axhline(100 / len(QUESTIONS[question].labels), color="grey", linewidth=0.8, linestyle=(0, (1, 3)))
        ax.set_xscale("log", base=2)
        ax.set_xticks(GAPS, [str(gap) for gap in GAPS])
        ax.set(title=ASKED[question], xlabel="gap, seconds", ylim=(0, 104))
        ax.title.set_fontsize(10)
    axes[0].set_ylabel("accuracy, %")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(CONTESTANTS), frameon=False
    )
    # No date and no version, so that the same figures give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
