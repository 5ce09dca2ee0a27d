"""Datasets of movies with the CSV listing that `vis4mer train` reads."""

import csv
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from samples.generator.film import Format, write
from samples.generator.scenes import Script
from samples.generator.story import Story

LISTING = "movies.csv"


def write_dataset(
    folder: Path, splits: Mapping[str, range], form: Format, script: Callable[[int], Script] = Story.from_seed
) -> Path:
    """Writes a movie for every seed, and then the listing with columns path, label and split.

    Movies that the folder already holds are kept. Delete the folder to change the format or the scripts.

    Args:
        folder: Folder of the movies and the listing; created if it is absent.
        splits: Seeds of each split, by the split's name.
        form: Format of the movies.
        script: Picklable function that returns the script of a seed.

    Returns:
        Path of the listing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [seed for split in splits.values() for seed in split]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_missing, folder, form, script), seeds, chunksize=8))
    listing = folder / LISTING
    with listing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for split, seeds_of_split in splits.items():
            for seed in seeds_of_split:
                writer.writerow((movie_path(folder, seed).name, script(seed).label, split))
    return listing


def movie_path(folder: Path, seed: int) -> Path:
    """Returns the path of the movie of `seed` in a dataset's folder."""
    return folder / f"{seed:07d}.mp4"


def _write_missing(folder: Path, form: Format, script: Callable[[int], Script], seed: int) -> None:
    path = movie_path(folder, seed)
    if not path.exists():
        write(script(seed), path, form)
