"""What the options of `vis4mer train` amount to."""

import csv
from pathlib import Path
from typing import Any

import pytest

from vis4mer.cli.train import train
from vis4mer.cli.train_plan import Plan, plan_training
from vis4mer.errors import ConfigError, DataError


def plan(*arguments: str | Path) -> Plan:
    with train.make_context("train", [*map(str, arguments), "-o", "out"]) as ctx:
        options: dict[str, Any] = dict(ctx.params)
        named = {name: options.pop(name) for name in ("movies", "protocol", "videos", "splits")}
        return plan_training(ctx, **named, options=options)


@pytest.fixture
def lvu(tmp_path: Path) -> list[str | Path]:
    """A task of LVU with a video per split; the training split has one more, which is missing."""
    (tmp_path / "scene").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.mp4").touch()
        rows = ["class_id class_name youtube_id", f"0 office {split}"]
        (tmp_path / "scene" / f"{split}.csv").write_text("\n".join(rows + ["1 jail gone"] * (split == "train")))
    return ["--protocol", "lvu/scene", "--splits", tmp_path, "--videos", tmp_path]


@pytest.fixture
def breakfast(tmp_path: Path) -> list[str | Path]:
    """A video of each of eleven people to train on, of which two are held out, and of one to test on."""
    people = {"train": range(3, 14), "test": range(47, 48)}
    for split, numbers in people.items():
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file_name", "duration", "action", "class_id"))
            for number in numbers:
                (tmp_path / f"P{number:02}-cam01-tea.avi").touch()
                writer.writerow((f"P{number:02}-cam01-tea", 30, "tea", 0))
    return ["--protocol", "breakfast", "--splits", tmp_path, "--videos", tmp_path]


def test_a_benchmark_brings_its_settings(lvu: list[str | Path], breakfast: list[str | Path]) -> None:
    found = plan(*lvu)
    assert (found.head, found.config.schedule, found.config.epochs, found.config.batch_size) == (
        "scene",
        "plateau",
        100,
        16,
    )
    assert found.preprocessing.last_frame
    assert (found.windows.seconds, found.windows.stride) == (60, 1)
    assert len(found.listing.labels) == 6
    assert [example.video.name for example in found.listing.missing] == ["gone"]
    found = plan(*breakfast)
    assert (found.encoder, found.preprocessing.segments, found.windows.samples) == ("swin3d_b", 512, 64)


def test_what_the_user_gives_goes_before_it(lvu: list[str | Path]) -> None:
    found = plan(*lvu, "--epochs", "100", "--schedule", "cosine", "--head", "decoder", "--fps", "2", "--stride", "3")
    assert (found.config.epochs, found.config.schedule, found.head) == (100, "cosine", "decoder")
    assert (found.preprocessing.fps, found.preprocessing.last_frame, found.preprocessing.height) == (2, True, 224)
    assert (found.windows.seconds, found.windows.stride) == (60, 3)


def test_the_test_split_is_touched_only_as_published(lvu: list[str | Path], breakfast: list[str | Path]) -> None:
    for data, held_out in ((lvu, 1), (breakfast, 2)):
        found = plan(*data)
        assert (found.chosen_on, len(found.val)) == ("val", held_out)
        assert "test" not in {example.split for example in found.train + found.val}


def test_as_published_learns_from_and_chooses_on_the_published_splits(
    lvu: list[str | Path], breakfast: list[str | Path]
) -> None:
    found = plan(*lvu, "--as-published")
    assert (found.chosen_on, found.config.schedule, found.config.as_published) == ("test", "plateau", True)
    assert [example.split for example in found.train] == ["train"]
    assert [example.split for example in found.val] == ["test"]
    assert len(plan(*breakfast, "--as-published").train) == 11
    with pytest.raises(ConfigError, match="schedule='cosine'"):
        plan(*lvu, "--as-published", "--schedule", "cosine")


def test_a_split_whose_movies_are_all_missing_is_told_before_anything_is_encoded(
    lvu: list[str | Path], tmp_path: Path
) -> None:
    (tmp_path / "val.mp4").unlink()
    with pytest.raises(DataError, match=r"split='val': holds no movie; its movies are missing \(1\)"):
        plan(*lvu)
