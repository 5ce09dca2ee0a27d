"""Classifies movies from Python: ``python samples/python/predict.py [MOVIE...]``."""

import sys
from pathlib import Path

import vis4mer
from vis4mer.errors import Vis4merError

SAMPLE = Path(__file__).parents[1] / "movie.mp4"


def main(movies: list[str]) -> None:
    """Loads the sample model once and prints what it says of each movie, and of each window of it."""
    classifier = vis4mer.load()  # or the path of a bundle or checkpoint, and device="cuda"
    for movie in movies:
        prediction = classifier(movie)
        print(f"{movie}: {prediction.label}")
        for label, probability in prediction.probabilities.items():
            print(f"  {label:<12} {probability:6.1%}")
        for window in prediction.windows:
            print(f"  {window.start:5.1f} s to {window.end:5.1f} s  {max(window.probabilities):6.1%}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or [str(SAMPLE)])
    except Vis4merError as error:
        sys.exit(f"error: {error}")
