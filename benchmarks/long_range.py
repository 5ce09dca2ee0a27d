"""How far back ViS4mer remembers, and against whom.

    python benchmarks/long_range.py

Movies of 112 s ask one of four questions whose answers lie 10, 20, 40 or 80 s apart: does the one who left return, who
of two came first, how many of three guests were Poppy, did two come home in the order they left
(samples/cottage/tales.py). Their frames, one a second, become a token each by the sample bundle's encoder. On these
tokens four models of about 40,000 parameters learn each question from the same 1,600 movies of all gaps and are asked
about 1,000 others, whose scenes they have not seen: ViS4mer; a Transformer; a multilayer perceptron on the mean over
time; and ViS4mer that sees only 10 s at once. Three seeds, a learning rate of 3e-3; the Transformer may choose between
that and 1e-3 by validation movies. Then ViS4mer with one thing changed answers two of the questions.

Accuracies are percentages, of the three seeds the mean (least-greatest). Training is in CPU seconds of one thread,
memory the peak of one step of 16 movies. Writes results/long_range.json and results/long_range.png. About half an hour
of one core with the native ops (`python -m vis4mer_kernels.build`), an hour without; runs that are done are kept in
--work, and an interrupted benchmark goes on.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

try:
    import matplotlib  # noqa: F401
    import torch
except ImportError as error:
    sys.exit(f"error: package={error.name!r}: is needed; pip install '.[train]'")

from long_range.contestants import ABLATIONS, CONTESTANTS
from long_range.report import plot, show, tabulate
from long_range.runs import ABLATED_ON, ENTRANTS, QUESTIONS, Size, perform
from long_range.training import training_step
from measure import RESULTS, machine, save
from memory import peak_bytes

from vis4mer_kernels.library import native

_QUICK = Size(train=25, val=5, test=10, epochs=1, seeds=1)


def main() -> None:
    """Does what is not done yet, and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("build/long_range"), help="of done runs (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a few movies, one epoch and seed: shows that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums depend on the number of threads, and so would the accuracies
    size = _QUICK if arguments.quick else Size()

    journal = perform(size, arguments.work)
    memory = {name: round(peak_bytes(_step, name) / 1e6, 1) for name in ENTRANTS}
    compared = tabulate(journal, size, QUESTIONS, CONTESTANTS)
    ablated = tabulate(journal, size, ABLATED_ON, ("ViS4mer", *ABLATIONS))
    for rows in (compared, ablated):
        print()
        show(rows, memory)
    if arguments.quick:
        plot(compared, arguments.work / "quick.png")
        return
    save(
        "long_range",
        {
            "description": __doc__,
            "machine": machine(**{name: version(name) for name in ("torch", "onnxruntime-gpu")}),
            "ops": "native" if native("auto", "cpu") else "reference",
            "size": dataclasses.asdict(size),
            "chance": {name: 1 / len(question.labels) for name, question in QUESTIONS.items()},
            "step_peak_megabytes": memory,
            "rows": compared,
            "ablations": ablated,
        },
    )
    plot(compared, RESULTS / "long_range.png")


def _step(name: str) -> Callable[[], None]:
    return training_step(ENTRANTS[name], 2)


if __name__ == "__main__":
    main()
