"""The result of one of several movies: a prediction, or the error in its place."""

from dataclasses import dataclass

from vis4mer.runtime.prediction import Prediction


@dataclass(frozen=True)
class Outcome:
    """The result of one movie of `vis4mer.Classifier.map`.

    Attributes:
        number: Position among the movies, counted from 0.
        video: Path of the movie.
        prediction: The prediction; None if the movie failed.
        error: What the movie failed with; None if there is a prediction. Whatever a user can cause is a
            `vis4mer.errors.Vis4merError`.
    """

    number: int
    video: str
    prediction: Prediction | None = None
    error: Exception | None = None

    def result(self) -> Prediction:
        """Returns the prediction, or raises the error."""
        if self.prediction is None:
            assert self.error is not None, "an outcome holds a prediction or an error"
            raise self.error
        return self.prediction
