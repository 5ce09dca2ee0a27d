"""Accuracy of ViS4mer and of other models on questions about events 10 to 80 s apart.

    python -m benchmarks.long_range

Movies of 112 s ask one of four questions whose answers lie 10, 20, 40 or 80 s apart: whether the one who left returns,
who of two came first, how many of three guests were Poppy, whether two came home in the order in which they left
(samples/generator/questions.py). The encoder of the sample bundle turns each frame, one per second, into one token. On
these tokens, four models of about 40,000 parameters learn each question from the same 1,600 movies of all gaps, and are
tested on 1,000 others whose scenes they have not seen: ViS4mer; a Transformer; a multilayer perceptron on the mean over
time; and ViS4mer that sees only 10 s at once. Three seeds, a learning rate of 3e-3; for the Transformer, validation
movies choose between that and 1e-3. Then variants of ViS4mer with one change each learn two of the questions.

Accuracies are percentages: the mean of the three seeds (least-greatest). Training is in CPU seconds of one thread;
memory is the peak of one step of 16 movies. Writes results/long_range.json. Takes about half an hour on one core with
the native ops (`python -m vis4mer_kernels.build`), an hour without. Finished runs are kept in --work, so an interrupted
benchmark continues where it stopped.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

try:
    import torch
except ImportError as error:
    sys.exit(f"error: package={error.name!r}: must be installed; run pip install '.[train]'")

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.memory import peak_bytes
from benchmarks.recall.entrants import ABLATIONS, ENTRANTS, MODELS
from benchmarks.recall.runs import ABLATED_ON, Size, complete
from benchmarks.recall.table import show_rows, tabulate
from benchmarks.recall.training import training_step
from samples.generator.questions import QUESTIONS
from vis4mer_kernels.library import native

TINY = Size(train=25, val=5, test=10, epochs=1, seeds=1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the folder of finished runs."""
    default = Path("build/long_range")
    parser.add_argument("--work", type=Path, default=default, help="folder of finished runs (default: %(default)s)")


def run(options: argparse.Namespace) -> Result:
    """Completes the runs and prints both tables."""
    torch.set_num_threads(1)  # the order of sums depends on the number of threads, and so do the accuracies
    size = TINY if options.tiny else Size()
    journal = complete(size, options.work)
    memory = {name: round(peak_bytes(_step, name) / 1e6, 1) for name in progress(ENTRANTS, "memory of {}".format)}
    compared = tabulate(journal, size, QUESTIONS, MODELS)
    ablated = tabulate(journal, size, ABLATED_ON, ("ViS4mer", *ABLATIONS))
    for rows in (compared, ablated):
        show()
        show_rows(rows, memory)
    return {
        "ops": "native" if native("auto", "cpu") else "reference",
        "size": dataclasses.asdict(size),
        "chance": {name: 1 / len(question.labels) for name, question in QUESTIONS.items()},
        "step_peak_megabytes": memory,
        "rows": compared,
        "ablations": ablated,
    }


def _step(name: str) -> Callable[[], None]:
    return training_step(ENTRANTS[name], 2)


BENCHMARK = Benchmark("long_range", __doc__, run, add_options=add_options)

if __name__ == "__main__":
    BENCHMARK.main()
