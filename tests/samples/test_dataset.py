"""`vis4mer train` reads the datasets that the generator writes."""

from pathlib import Path

from samples.generator.dataset import movie_path, write_dataset
from samples.generator.film import Format
from samples.generator.story import Story
from vis4mer.training.data.listing import Listing

TINY = Format(fps=1, width=64, height=36)
SPLITS = {"train": range(20, 25), "val": range(25, 27)}


def test_training_reads_the_listing(tmp_path: Path) -> None:
    listing = Listing.read(write_dataset(tmp_path / "movies", SPLITS, TINY))
    assert listing.labels == ("returns", "stranger")
    for split, seeds in SPLITS.items():
        examples = listing.split(split)
        assert [example.video.resolve() for example in examples] == [
            movie_path(tmp_path / "movies", seed).resolve() for seed in seeds
        ]
        assert [listing.labels[int(example.target)] for example in examples] == [
            Story.from_seed(seed).label for seed in seeds
        ]


def test_existing_movies_are_kept(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train": range(2)}, TINY)
    movie_path(tmp_path, 0).write_bytes(b"kept")
    write_dataset(tmp_path, {"train": range(3)}, TINY)
    assert movie_path(tmp_path, 0).read_bytes() == b"kept"
    assert movie_path(tmp_path, 2).stat().st_size > 1000
