"""A data set by name, a user's CSV or a published benchmark, and the movies of it that a training run uses."""

import dataclasses
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vis4mer.errors import DataError
from vis4mer.text import count
from vis4mer.training.data.listing import Example, Listing, Split
from vis4mer.training.data.protocols import Protocol, find_protocol
from vis4mer.training.settings import DataSettings, TrainSettings

logger = logging.getLogger(__name__)


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
        skip = data.skip_unreadable
        listing = Listing.read(data.movies, val_ratio=data.val_ratio, seed=seed, skip_missing=skip)
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

    def without(self, unreadable: Collection[Example]) -> Self:
        """Returns the plan without movies that cannot be read.

        Raises:
            DataError: A split, or a label of the training split, has lost all its movies.
        """
        if not unreadable:
            return self
        train, val = (
            tuple(example for example in examples if example not in unreadable) for examples in (self.train, self.val)
        )
        remedy = "replace them, or convert them with ffmpeg"
        for split, before, after in (("train", self.train, train), (self.chosen_on, self.val, val)):
            if not after:
                raise DataError.of("split", split, f"none of its {count(len(before), 'movie')} can be read", remedy)
        if lost := _targets(self.train) - _targets(train) if self.data.listing.labels else set():
            label = self.data.listing.labels[int(min(lost))]
            raise DataError.of("label", label, "none of its training movies can be read", remedy)
        plan = dataclasses.replace(self, train=train, val=val)
        _check_targets(plan)
        return plan


def plan_training(settings: TrainSettings) -> TrainingPlan:
    """Reads the data set and selects its movies.

    With ``as_published``, the test split chooses the epoch, and a validation split that the benchmark does not have is
    returned to the training split that it was taken from.

    Raises:
        DataError: The data set cannot be read, a split is empty, or the training movies have only one target.
    """
    data = DataSet.read(settings.data, settings.training.seed)
    as_published = settings.training.as_published
    chosen_on: Split = "test" if as_published else "val"
    train = data.listing.require_split("train")
    if as_published and data.protocol is not None and data.protocol.holds_out:
        train += data.listing.split("val")
    plan = TrainingPlan(settings, data, train, data.listing.require_split(chosen_on), chosen_on)
    _check_targets(plan)
    _warn_uninformative(plan)
    return plan


def _check_targets(plan: TrainingPlan) -> None:
    """Checks that the training movies have more than one target.

    Raises:
        DataError: They have only one, from which any model learns to repeat it.
    """
    targets, labels = _targets(plan.train), plan.data.listing.labels
    if len(targets) == 1:
        (target,) = targets
        held = f"the label {labels[int(target)]!r}" if labels else f"the value {target:g}"
        rule = f"holds only {held} ({count(len(plan.train), 'movie')}); training needs at least two"
        raise DataError.of("split", "train", rule, f"add other movies to {plan.data.name}")


def _warn_uninformative(plan: TrainingPlan) -> None:
    """Logs warnings if the movies that decide which epoch is best say little about the model."""
    labels, name, split = plan.data.listing.labels, plan.data.name, plan.chosen_on
    if not labels:
        return
    validated = _targets(plan.val)
    if unknown := validated - _targets(plan.train):
        label = labels[int(min(unknown))]
        logger.warning("%s: split %s has the label %r, which no training movie has", name, split, label)
    if len(validated) == 1:
        label = labels[int(min(validated))]
        logger.warning(
            "%s: split %s holds only the label %r, so it hardly shows which epoch is best", name, split, label
        )


def _targets(examples: Iterable[Example]) -> set[float]:
    return {example.target for example in examples}
