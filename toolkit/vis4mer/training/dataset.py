"""A data set by name: a user's CSV, or a published benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vis4mer.training.listing import Listing
from vis4mer.training.protocols import Protocol, find_protocol
from vis4mer.training.settings import DataSettings


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
