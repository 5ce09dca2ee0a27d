"""A data set by name, a user's CSV or a published benchmark, and the movies of it that a training run uses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vis4mer.training.data.listing import Example, Listing, Split
from vis4mer.training.data.protocols import Protocol, find_protocol
from vis4mer.training.settings import DataSettings, TrainSettings


@dataclass(frozen=True)
class DataSet:
    """A data set and its movies.

    Attributes:
        name: Name of the benchmark, or of the CSV file.
        protocol: Published benchmark; None for a user's own movies.
        listing: Movies with targets and splits.
    """

    name: str
    protocol: Protocol | None
    listing: Listing

    @classmethod
    def read(cls, data: DataSettings, seed: int = 0) -> Self:
        """Reads the files that describe a data set.

        Args:
            data: Data set to read.
            seed: Seed of the validation split, which is drawn if a CSV has no column 'split'.

        Raises:
            DataError: A file is missing or malformed, or a video is missing.
        """
        if data.protocol is not None:
            assert data.videos is not None, "DataSettings has checked it"
            assert data.splits is not None, "DataSettings has checked it"
            return cls.read_protocol(find_protocol(data.protocol), data.videos, data.splits)
        assert data.movies is not None, "DataSettings has checked it"
        listing = Listing.read(data.movies, val_ratio=data.val_ratio, seed=seed)
        return cls(data.movies.name, None, listing)

    @classmethod
    def read_protocol(cls, protocol: Protocol, videos: Path, splits: Path) -> Self:
        """Reads the files of a published benchmark.

        Args:
            protocol: Benchmark.
            videos: Folder of its videos.
            splits: Folder of its own split files.

        Raises:
            DataError: A file is missing or malformed, or no video exists.
        """
        return cls(protocol.name, protocol, protocol.listing(splits, videos))


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
