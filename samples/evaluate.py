"""Measures the sample model on movies it has not seen, whole and in part, from file to label.

    python samples/evaluate.py

A movie shorter than a window is padded with zeros, as in the published protocol. The model has not met padding, so ten
seconds are also shown over and over until they fill a window.

Needs only the base install. Prints a table and writes it to benchmarks/results/sample.json.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
from cottage.film import Format, Span
from cottage.measure import Accuracy, Excerpt, measure
from cottage.story import WINDOW_SECONDS, Story

import vis4mer

_SHORT = 10.0  # seconds
_SAMPLES = Path(__file__).parent
_RESULT = _SAMPLES.parent / "benchmarks" / "results" / "sample.json"


def _whole(story: Story) -> tuple[Span, ...]:
    return ()


def _anywhere(story: Story) -> tuple[Span, ...]:
    start = float(np.random.default_rng([story.seed, 10]).uniform(0, story.duration - _SHORT))
    return ((start, start + _SHORT),)


def _around_arrival(story: Story) -> tuple[Span, ...]:
    start = min((story.arriving.start + story.arriving.end - _SHORT) / 2, story.duration - _SHORT)
    return ((start, start + _SHORT),)


def _around_arrival_repeated(story: Story) -> tuple[Span, ...]:
    return _around_arrival(story) * round(WINDOW_SECONDS / _SHORT)


def _after_leaving(story: Story) -> tuple[Span, ...]:
    return ((story.leaving.end, story.duration),)


_SAMPLED, _FILMED = Format(fps=1), Format(fps=24, width=640, height=360)
_ROWS: dict[str, tuple[Excerpt, Format]] = {
    "whole movies": (_whole, _SAMPLED),
    "10 s from anywhere": (_anywhere, _SAMPLED),
    "10 s around the arrival": (_around_arrival, _SAMPLED),
    "the same, repeated to fill a window": (_around_arrival_repeated, _SAMPLED),
    "all after the first door scene": (_after_leaving, _SAMPLED),
    "whole movies, 640x360 at 24 frames/s": (_whole, _FILMED),
}


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=_SAMPLES / "bundle", help="to measure (default: %(default)s)")
    parser.add_argument(
        "--movies", type=int, default=400, help="per row, a tenth at 24 frames/s (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the first movie (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, default=_RESULT, help="JSON file (default: %(default)s)")
    arguments = parser.parse_args()

    classifier = vis4mer.load(arguments.bundle, device="cpu")
    print(f"{'shown':<38} {'movies':>6}  accuracy  95 % interval")
    rows = {}
    for name, (excerpt, form) in _ROWS.items():
        count = arguments.movies if form is _SAMPLED else max(1, arguments.movies // 10)
        accuracy = measure(classifier, range(arguments.seed, arguments.seed + count), form, excerpt)
        rows[name] = _record(accuracy)
        low, high = accuracy.interval()
        print(f"{name:<38} {count:>6}  {accuracy.share:8.1%}  {low:.1%} to {high:.1%}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"first_seed": arguments.seed, "machine": platform.machine(), "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def _record(accuracy: Accuracy) -> dict[str, object]:
    low, high = accuracy.interval()
    return {
        "movies": accuracy.movies,
        "right": accuracy.right,
        "accuracy": accuracy.share,
        "interval_95": [round(low, 4), round(high, 4)],
    }


if __name__ == "__main__":
    main()
