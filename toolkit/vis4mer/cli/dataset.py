"""What `vis4mer train` and `vis4mer eval` share: a data set by name or listing, and its movies as tokens."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vis4mer.cli.console import say
from vis4mer.errors import DataError, Vis4merError
from vis4mer.training.listing import Example, Listing, Split
from vis4mer.training.protocols import Protocol

if TYPE_CHECKING:
    from vis4mer.training.data import Movie
    from vis4mer.training.distributed import Processes
    from vis4mer.training.features import FeatureCache

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

_FOLDER = click.Path(file_okay=False, path_type=Path)


def protocol_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that name a published benchmark and where it lies."""
    for option in (
        click.option("--splits", type=_FOLDER, metavar="DIR", help="Folder of the benchmark's own split files."),
        click.option("--videos", type=_FOLDER, metavar="DIR", help="Folder of the benchmark's videos, by their names."),
        click.option("--protocol", metavar="NAME", help="A published benchmark: lvu/TASK, breakfast or coin."),
    ):
        command = option(command)
    return command


def read_listing(
    movies: Path | None, protocol: Protocol | None, videos: Path | None, splits: Path | None, **draw: Any
) -> Listing:
    """Reads what the user named: a CSV, or a benchmark.

    Args:
        movies: the CSV.
        protocol: the benchmark.
        videos: folder of its videos.
        splits: folder of its lists.
        draw: settings of `Listing.read` for a CSV.

    Raises:
        click.UsageError: not one of the two was named, or not what goes with it.
        DataError: see `Listing.read` and `Protocol.listing`.
    """
    if (movies is None) == (protocol is None):
        raise click.UsageError("give either a CSV of movies or --protocol")
    if (videos is None or splits is None) if protocol else (videos or splits):
        raise click.UsageError("--protocol, --videos and --splits go together")
    if protocol and videos and splits:
        return protocol.listing(splits, videos)
    assert movies is not None, "checked above"
    return Listing.read(movies, **draw)


def tell_missing(listing: Listing, name: str) -> None:
    """Names on stderr the movies that the data set called `name` should have and has not."""
    if listing.missing:
        names = " ".join(example.video.name for example in listing.missing)
        total = len(listing.examples) + len(listing.missing)
        say("warning", f"{len(listing.missing)} of {total} videos of {name} are missing: {names}")


def missing_movies(listing: Listing, split: Split) -> tuple[str, ...]:
    """Names of the movies of a split that are not there."""
    return tuple(example.video.name for example in listing.missing if example.split == split)


def movies_of(listing: Listing, split: Split) -> tuple[Example, ...]:
    """Returns the movies of a split.

    Raises:
        DataError: it has none.
    """
    if examples := listing.split(split):
        return examples
    missing = missing_movies(listing, split)
    remedy = f"its movies are missing ({len(missing)})" if missing else f"add rows with {split!r} in column 'split'"
    raise DataError(f"split={split!r}: holds no movie; {remedy}")


def encode_movies(
    cache: "FeatureCache", examples: Sequence[Example], name: str, progress: Progress, processes: "Processes"
) -> "list[Movie]":
    """Returns movies as tokens; those that the cache lacks are encoded, by each process a share of them.

    Args:
        cache: of the tokens.
        examples: the movies.
        name: of their split, for the progress bar.
        progress: shows it.
        processes: that share the work.

    Raises:
        Vis4merError: a video cannot be read or encoded.
    """
    from vis4mer.training.data import Movie

    with processes.together():
        share = examples[processes.rank :: processes.count]
        for example in progress.track(share, description=f"encoding {name} movies"):
            cache.tokens(example.video, example.clip)
    with processes.together():
        return [Movie(cache.tokens(example.video, example.clip), example.target) for example in examples]


@contextmanager
def told_once() -> Iterator[None]:
    """Lets one process of each machine tell of a mistake that all make, before they know of each other."""
    try:
        yield
    except Vis4merError:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        time.sleep(2)  # or torchrun would end the one that tells
        raise SystemExit(1) from None
