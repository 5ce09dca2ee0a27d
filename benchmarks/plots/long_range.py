"""Accuracy against the gap between the decisive scenes, for every question and model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.recall.entrants import MODELS
from samples.generator.questions import GAPS, QUESTIONS

_TITLES = {
    "returns": "Does the one who left return?",
    "order": "Who of two came first?",
    "count": "How many of three guests were Poppy?",
    "story": "Did they return in the order they left?",
}


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws a panel for each question: means over the seeds, and their range as a band.

    Args:
        rows: Rows of the benchmark that compare the models.
        path: PNG file.
    """
    figure, axes = plt.subplots(1, len(QUESTIONS), figsize=(12, 3.4), sharey=True, layout="constrained")
    styles = dict(zip(MODELS, ("o-", "s--", "^-.", "v:"), strict=True))
    for ax, question in zip(axes, QUESTIONS, strict=True):
        for row in rows:
            if row["question"] == question:
                values = list(row["accuracy"].values())
                (line,) = ax.plot(GAPS, [100 * fmean(v) for v in values], styles[row["entrant"]], label=row["entrant"])
                low, high = [100 * min(v) for v in values], [100 * max(v) for v in values]
                ax.fill_between(GAPS, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        ax.axhline(100 / len(QUESTIONS[question].labels), color="grey", linewidth=0.8, linestyle=(0, (1, 3)))
        ax.set_xscale("log", base=2)
        ax.set_xticks(GAPS, [str(gap) for gap in GAPS])
        ax.set(title=_TITLES[question], xlabel="gap, seconds", ylim=(0, 104))
        ax.title.set_fontsize(10)
    axes[0].set_ylabel("accuracy, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MODELS), frameon=False)
    # Without date and version, equal figures give equal bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
