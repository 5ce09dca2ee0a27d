"""Pages about accuracy: the sample model, and how far back models remember."""

from benchmark_pages.charts import Axis, Bar, Line, bars, legend, lines, panels
from benchmark_pages.page import Benchmark, Result, table

_QUESTIONS = {
    "returns": "Does the guest who left return?",
    "order": "Which of two came first?",
    "count": "How many of three guests were Poppy?",
    "story": "Did two come home in the order they left?",
}
_GAPS = {10: "10", 20: "20", 40: "40", 80: "80"}


def _sample(result: Result) -> str:
    drawn = [
        Bar(name, row["accuracy"], f"{100 * row['accuracy']:.1f} %", name.startswith("whole"))
        for name, row in result["rows"].items()
    ]
    cells = [
        (
            name,
            str(row["movies"]),
            f"{100 * row['accuracy']:.1f} %",
            f"{100 * row['interval_95'][0]:.1f} % to {100 * row['interval_95'][1]:.1f} %",
        )
        for name, row in result["rows"].items()
    ]
    return f"""{bars("Accuracy; chance is 50 %", drawn)}
{table(("shown", "movies", "accuracy", "95 % interval"), cells)}
The model was not trained on movies shorter than its window, which are padded with zeros, and returns the same label for
all of them. The fair comparison is therefore the row whose ten seconds are repeated until they fill a window.
"""


SAMPLE = Benchmark(
    name="sample",
    title="The sample model",
    question="How accurate is the bundled sample model, on whole movies and on excerpts?",
    command="python -m benchmarks.sample",
    method="""The sample movies last 60 to 90 s. Somebody leaves a cottage, and 40 to 45 s later somebody comes to the
door: `returns` if it is the same character, `stranger` if not. No excerpt of ten seconds can answer that. The bundle in
`samples/bundle` classifies movies that it has not seen, from file to label, whole and in part.""",
    show=_sample,
)


def _percent(values: list[float]) -> str:
    mean = f"{100 * sum(values) / len(values):.1f}"
    low, high = 100 * min(values), 100 * max(values)
    return mean if high - low < 1 else f"{mean} ({low:.0f} to {high:.0f})"


def _mean(values: list[float]) -> float:
    return 100 * sum(values) / len(values)


def _cells(row: Result, memory: Result) -> tuple[str, ...]:
    costs = f"{row['parameters']:,}", f"{row['cpu_seconds']:.0f}", f"{memory[row['entrant']]:.1f}"
    return (*(_percent(values) for values in row["accuracy"].values()), *costs)


def _long_range(result: Result) -> str:
    entrants = list(dict.fromkeys(row["entrant"] for row in result["rows"]))
    seconds = Axis("seconds between the events", _GAPS, log=True)
    accuracy = Axis("accuracy, %", {0: "0", 25: "25", 50: "50", 75: "75", 100: "100"})
    figures = []
    for question, title in _QUESTIONS.items():
        series = [
            Line(
                row["entrant"],
                [(int(gap), _mean(values)) for gap, values in row["accuracy"].items()],
                [(100 * min(values), 100 * max(values)) for values in row["accuracy"].values()],
            )
            for row in result["rows"]
            if row["question"] == question
        ]
        figures.append(lines(title, seconds, accuracy, series, reference=100 * result["chance"][question]))
    memory = result["step_peak_megabytes"]
    gaps = tuple(f"{gap} s" for gap in _GAPS)
    costs = ("parameters", "training, CPU s", "step, MB")
    rows = [(_QUESTIONS[row["question"]], row["entrant"], *_cells(row, memory)) for row in result["rows"]]
    changed = [
        (_QUESTIONS[row["question"]], _change(row["entrant"]), *_cells(row, memory)) for row in result["ablations"]
    ]
    return f"""{legend(entrants)}
{panels(figures)}
Lines are means over {result["size"]["seeds"]} seeds, bands run from the least to the greatest, dashes mark chance.

{table(("question", "model", *gaps, *costs), rows)}
ViS4mer does not win everywhere: the Transformer is better at the first question, and a mean over time is enough
for counting. Only ViS4mer learns the last question within the steps that all models get. Ten seconds at a time
are not enough for any question.

## ViS4mer with one thing changed

{table(("question", "ViS4mer with", *gaps, *costs), changed)}
On these 112 tokens, one or two blocks suffice; a fourth block and smaller states cost accuracy. Pooling and halving the
channels save time and memory and cost some points on the first question.

## How the settings were chosen

The number of steps, the same for all models, and ViS4mer's learning rate were chosen in trials that looked at the
accuracies: the number of steps was raised because ViS4mer had not converged on the first question. Only the
Transformer chooses between two learning rates, on validation movies. Seconds are CPU time on a machine with other load.
"""


def _change(entrant: str) -> str:
    return "nothing changed" if entrant == "ViS4mer" else entrant


LONG_RANGE = Benchmark(
    name="long_range",
    title="How far back it remembers",
    question="Which models connect events that lie 10 to 80 s apart?",
    command="python -m benchmarks.long_range",
    method="""Generated movies of 112 s ask one of four questions, whose answer depends on events 10, 20, 40 or 80 s
apart. The sample bundle's encoder turns one frame per second into a token. On these tokens, four models of about 40,000
parameters learn each question from the same movies and are tested on others: ViS4mer; a Transformer; a multilayer
perceptron on the mean over time; and ViS4mer on excerpts of 10 s. Accuracies are percentages: the mean over the seeds,
with the least and the greatest where these differ by a point or more. Chance is 50 %, and 25 % for the count.""",
    show=_long_range,
)
