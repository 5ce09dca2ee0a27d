"""Classifies movies from Python: ``python samples/python/predict.py [MOVIE...]``."""

import argparse
import signal
import sys
from pathlib import Path

import vis4mer
from vis4mer.errors import Vis4merError

SAMPLE = Path(__file__).parents[1] / "movie.mp4"


def main() -> None:
    """Loads the sample model once, and prints the probabilities of each movie and of its windows."""
    parser = argparse.ArgumentParser(description="Classifies movies with the sample model.")
    parser.add_argument(
        "movies",
        nargs="*",
        metavar="MOVIE",
        default=[str(SAMPLE)],
        help="movies to classify (default: the sample movie)",
    )
    movies = parser.parse_args().movies
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when a reader such as head closes the pipe
    classifier = vis4mer.load()  # takes the path of a bundle or checkpoint, and device="cuda"
    for movie in movies:
        prediction = classifier(movie)
        print(f"{movie}: {prediction.label}")
        for label, probability in prediction.probabilities.items():
            print(f"  {label:<12} {probability:6.1%}")
        for window in prediction.windows:
            print(f"  {window.start:5.1f} s to {window.end:5.1f} s  {max(window.probabilities):6.1%}")


if __name__ == "__main__":
    try:
        main()
    except Vis4merError as error:
        sys.exit(f"error: {error}")
