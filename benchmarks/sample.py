"""Accuracy of the sample model on new movies, shown whole and in part, from file to label.

    python -m benchmarks.sample

A movie shorter than a window is padded with zeros, as in the published protocol. The model has not been trained with
padding, so ten seconds are also repeated until they fill a window.

Needs only the base install. Writes results/sample.json.
"""

import argparse
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import vis4mer
from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.accuracy import Accuracy, Excerpt, measure_accuracy
from samples.generator.film import Format, Span
from samples.generator.story import WINDOW_SECONDS, Story

_SHORT_SECONDS = 10.0
_BUNDLE = Path(__file__).parents[1] / "samples" / "bundle"
_MOVIES, _TINY_MOVIES = 400, 2
_SAMPLED, _FILMED = Format(fps=1), Format(fps=24, width=640, height=360)


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        name: What is shown of each movie.
        excerpt: Spans that are shown.
        form: Format of the movie files.
    """

    name: str
    excerpt: Excerpt
    form: Format = _SAMPLED

    def movies(self, count: int) -> int:
        """Returns the number of movies of this row, where rows at 1 frame/s have `count`."""
        return count if self.form is _SAMPLED else max(1, count // 10)


def _whole(story: Story) -> tuple[Span, ...]:
    return ()


def _anywhere(story: Story) -> tuple[Span, ...]:
    start = float(np.random.default_rng([story.seed, 10]).uniform(0, story.duration - _SHORT_SECONDS))
    return ((start, start + _SHORT_SECONDS),)


def _around_arrival(story: Story) -> tuple[Span, ...]:
    centred = (story.arriving.start + story.arriving.end - _SHORT_SECONDS) / 2
    start = min(centred, story.duration - _SHORT_SECONDS)
    return ((start, start + _SHORT_SECONDS),)


def _around_arrival_repeated(story: Story) -> tuple[Span, ...]:
    return _around_arrival(story) * round(WINDOW_SECONDS / _SHORT_SECONDS)


def _after_leaving(story: Story) -> tuple[Span, ...]:
    return ((story.leaving.end, story.duration),)


ROWS = (
    Row("whole movies", _whole),
    Row("10 s from anywhere", _anywhere),
    Row("10 s around the arrival", _around_arrival),
    Row("the same, repeated to fill a window", _around_arrival_repeated),
    Row("all after the first door scene", _after_leaving),
    Row("whole movies, 640x360 at 24 frames/s", _whole, _FILMED),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the model and the movies."""
    parser.add_argument("--bundle", type=Path, default=_BUNDLE, help="bundle to measure (default: the sample bundle)")
    parser.add_argument(
        "--movies",
        type=int,
        metavar="N",
        help=f"movies in each row, a tenth of them at 24 frames/s (default: {_MOVIES}, {_TINY_MOVIES} with --tiny)",
    )
    parser.add_argument("--seed", type=int, default=1_000_000, help="seed of the first movie (default: %(default)s)")


def run(options: argparse.Namespace) -> Result:
    """Measures and prints every row."""
    count = options.movies or (_TINY_MOVIES if options.tiny else _MOVIES)
    logging.getLogger("vis4mer").setLevel(logging.ERROR)  # no warnings of padding, which some rows measure
    classifier = vis4mer.load(options.bundle, device="cpu")
    show(f"{'shown':<38} {'movies':>6}  accuracy  95 % interval")
    rows = {}
    # Drawing a movie takes most of the time, so the cost of a row grows with its number of frames.
    for row in progress(ROWS, lambda row: row.name, weight=lambda row: float(row.movies(count) * row.form.fps)):
        seeds = range(options.seed, options.seed + row.movies(count))
        accuracy = measure_accuracy(classifier, seeds, row.form, row.excerpt)
        rows[row.name] = _record(accuracy)
        low, high = accuracy.interval()
        show(f"{row.name:<38} {len(seeds):>6}  {accuracy.share:8.1%}  {low:.1%} to {high:.1%}")
    return {"first_seed": options.seed, "rows": rows}


def _record(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval()
    return {
        "movies": accuracy.movies,
        "right": accuracy.right,
        "accuracy": accuracy.share,
        "interval_95": [round(low, 4), round(high, 4)],
    }


BENCHMARK = Benchmark("sample", __doc__, run, add_options=add_options)

if __name__ == "__main__":
    BENCHMARK.main()
