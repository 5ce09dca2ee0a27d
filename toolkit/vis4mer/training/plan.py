"""The movies that a training run learns from and is validated on."""

from dataclasses import dataclass

from vis4mer.training.dataset import DataSet
from vis4mer.training.listing import Example, Split
from vis4mer.training.settings import TrainSettings


@dataclass(frozen=True)
class TrainingPlan:
    """A training run before anything is encoded.

    Attributes:
        settings: Settings of the run.
        data: Data set.
        train: Movies to learn from.
        val: Movies that decide which epoch is best.
        chosen_on: Split of `val`: ``val``, or ``test`` to reproduce the published code.
    """

    settings: TrainSettings
    data: DataSet
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    chosen_on: Split


def plan_training(settings: TrainSettings) -> TrainingPlan:
    """Reads the data set and selects its movies.

    With ``as_published``, the test split chooses the epoch, and a validation split that the benchmark does not have is
    returned to the training split that it was taken from.

    Raises:
        DataError: The data set cannot be read, or a split is empty.
    """
    data = DataSet.read(settings.data, settings.training.seed)
    as_published = settings.training.as_published
    chosen_on: Split = "test" if as_published else "val"
    train = data.listing.require_split("train")
    if as_published and data.protocol is not None and data.protocol.holds_out:
        train += data.listing.split("val")
    return TrainingPlan(settings, data, train, data.listing.require_split(chosen_on), chosen_on)
