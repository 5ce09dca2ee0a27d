"""The figure of a prediction that ignores the movie, which a useful model must improve on."""

from dataclasses import dataclass
from statistics import fmean

from vis4mer.training.data.listing import Listing, Split


@dataclass(frozen=True)
class Baseline:
    """The same prediction for every tested movie, and its figure.

    Attributes:
        prediction: Name of the most frequent class; mean of the values for regression.
        metric: Accuracy of the prediction in [0, 1], or its mean squared error.
        split: Split whose targets determine the prediction: ``train``, or ``test`` where the data set lists no movie to
            train on. The figure is then the best that a constant prediction can reach.
    """

    prediction: str | float
    metric: float
    split: Split

    @classmethod
    def of(cls, listing: Listing) -> "Baseline":
        """Computes the baseline of a data set, which has movies to test on."""
        tested = listing.split("test")
        split: Split = "train" if listing.split("train") else "test"
        targets = [example.target for example in listing.split(split)]
        if listing.task == "regression":
            mean = fmean(targets)
            return cls(mean, fmean((example.target - mean) ** 2 for example in tested), split)
        # Of equally frequent classes, the first one counts.
        majority = min(set(targets), key=lambda target: (-targets.count(target), target))
        accuracy = fmean(example.target == majority for example in tested)
        return cls(listing.labels[int(majority)], accuracy, split)
