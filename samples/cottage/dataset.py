"""Many movies at once, listed in a CSV as `vis4mer train` reads it."""

import csv
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from cottage.film import Format, write
from cottage.scenes import Tale
from cottage.story import Story

LISTING = "movies.csv"


def write_dataset(
    folder: Path, splits: Mapping[str, range], form: Format, tell: Callable[[int], Tale] = Story.from_seed
) -> Path:
    """Writes a movie for every seed, and then the listing with columns path, label and split.

    Movies that the folder holds already are kept: delete it to change the format or the tales.

    Args:
        folder: for the movies and the listing; created if need be.
        splits: the seeds of each split, by its name.
        form: how the movies are filmed.
        tell: from a seed to its tale; must be picklable.

    Returns:
        The listing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [seed for split in splits.values() for seed in split]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_missing, folder, form, tell), seeds, chunksize=8))
    listing = folder / LISTING
    with listing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for split, seeds_of_split in splits.items():
            for seed in seeds_of_split:
                writer.writerow((movie_path(folder, seed).name, tell(seed).label, split))
    return listing


def movie_path(folder: Path, seed: int) -> Path:
    """Returns where the movie of `seed` is in a data set's folder."""
    return folder / f"{seed:07d}.mp4"


def _write_missing(folder: Path, form: Format, tell: Callable[[int], Tale], seed: int) -> None:
    path = movie_path(folder, seed)
    if not path.exists():
        write(tell(seed), path, form)
