"""Settings and movies that the command line of `vis4mer train` amounts to."""

import csv
import dataclasses
from pathlib import Path

import pytest

from vis4mer.cli.train import settings_of, train
from vis4mer.errors import ConfigError, DataError
from vis4mer.training.data.dataset import TrainingPlan, plan_training
from vis4mer.training.settings import DataSettings, TrainSettings
from vis4mer.training.settings_file import dump_settings


def settings(*arguments: str | Path) -> TrainSettings:
    with train.make_context("train", [*map(str, arguments), "-o", "out"]) as ctx:
        return settings_of(ctx)


def plan(*arguments: str | Path) -> TrainingPlan:
    return plan_training(settings(*arguments))


@pytest.fixture
def lvu(tmp_path: Path) -> list[str | Path]:
    """Writes a task of LVU with one video per split, and a second and a missing one in the training split."""
    (tmp_path / "scene").mkdir()
    (tmp_path / "other.mp4").touch()
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.mp4").touch()
        rows = ["class_id class_name youtube_id", f"0 office {split}"]
        more = ["1 jail gone", "1 jail other"] if split == "train" else []
        (tmp_path / "scene" / f"{split}.csv").write_text("\n".join(rows + more))
    return ["--protocol", "lvu/scene", "--splits", tmp_path, "--videos", tmp_path]


@pytest.fixture
def breakfast(tmp_path: Path) -> list[str | Path]:
    """Writes a video of each of eleven people to train on, of whom two are held out, and of one person to test on."""
    people = {"train": range(3, 14), "test": range(47, 48)}
    for split, numbers in people.items():
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file_name", "duration", "action", "class_id"))
            for number in numbers:
                (tmp_path / f"P{number:02}-cam01-tea.avi").touch()
                dish = (number + 1) % 2
                writer.writerow((f"P{number:02}-cam01-tea", 30, ("tea", "juice")[dish], dish))
    return ["--protocol", "breakfast", "--splits", tmp_path, "--videos", tmp_path]


def test_defaults_are_those_of_the_dataclasses() -> None:
    assert settings("movies.csv") == TrainSettings.from_dict({"data": {"movies": "movies.csv"}})


def test_every_option_sets_its_setting() -> None:
    found = settings(
        *("movies.csv", "--val-ratio", "0.3", "--encoder", "vit", "--encoder-weights", "w.pt", "--image-size", "32"),
        *("--fps", "2", "--cache-dtype", "fp32", "--window-seconds", "8", "--stride", "3", "--head", "scene"),
        *("--d-model", "16", "--n-layers", "2", "--d-state", "8", "--dropout", "0.1", "--epochs", "7"),
        *("--batch-size", "5", "--lr", "0.1", "--ssm-lr", "0.2", "--weight-decay", "0.3", "--schedule", "plateau"),
        *("--warmup", "0.4", "--clip-norm", "0.5", "--precision", "bf16", "--as-published", "--seed", "9"),
    ).to_dict()
    assert {name: found["data"][name] for name in ("movies", "val_ratio")} == {"movies": "movies.csv", "val_ratio": 0.3}
    assert found["encoder"] == {"name": "vit", "weights": "w.pt"}
    assert [found["preprocessing"][name] for name in ("height", "width", "fps")] == [32, 32, 2]
    assert found["windows"] == {"seconds": 8, "stride": 3, "samples": None}
    assert found["head"] == {"name": "scene", "d_model": 16, "n_layers": 2, "d_state": 8, "dropout": 0.1}
    assert found["training"] == {
        "epochs": 7,
        "batch_size": 5,
        "lr": 0.1,
        "ssm_lr": 0.2,
        "weight_decay": 0.3,
        "schedule": "plateau",
        "warmup": 0.4,
        "clip_norm": 0.5,
        "seed": 9,
        "precision": "bf16",
        "as_published": True,
    }
    assert found["cache_dtype"] == "fp32"
    samples = settings("movies.csv", "--segments", "6", "--samples", "4")
    assert (samples.preprocessing.segments, samples.windows.samples) == (6, 4)


def test_a_benchmark_brings_its_settings(lvu: list[str | Path], breakfast: list[str | Path]) -> None:
    found = plan(*lvu)
    config = found.settings.training
    assert found.settings.head.name == "scene"
    assert (config.schedule, config.epochs, config.batch_size) == ("plateau", 100, 16)
    assert found.settings.preprocessing.last_frame
    assert (found.settings.windows.seconds, found.settings.windows.stride) == (60, 1)
    assert len(found.data.listing.labels) == 6
    assert found.data.listing.missing_names("train") == ("gone",)
    other = plan(*breakfast).settings
    assert (other.encoder.name, other.preprocessing.segments, other.windows.samples) == ("swin3d_b", 512, 64)


def test_options_override_a_benchmark(lvu: list[str | Path]) -> None:
    # Options at their default values override it too.
    found = settings(
        *lvu, "--epochs", "100", "--schedule", "cosine", "--head", "decoder", "--fps", "2", "--stride", "3"
    )
    assert (found.training.epochs, found.training.schedule, found.head.name) == (100, "cosine", "decoder")
    assert (found.preprocessing.fps, found.preprocessing.last_frame, found.preprocessing.height) == (2, True, 224)
    assert (found.windows.seconds, found.windows.stride) == (60, 3)


def test_options_override_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(
        "data: {movies: movies.csv}\ntraining: {epochs: 3, lr: 3e-3}\npreprocessing: {fps: 2}\n"
    )
    found = settings("--config", tmp_path / "experiment.yaml", "--epochs", "4", "--image-size", "32")
    assert found.data.movies == tmp_path / "movies.csv"
    assert (found.training.epochs, found.training.lr) == (4, 3e-3)
    assert (found.preprocessing.fps, found.preprocessing.height, found.preprocessing.width) == (2, 32, 32)


def test_a_csv_replaces_the_data_set_of_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("data: {movies: movies.csv, val_ratio: 0.4}\nhead: {d_model: 64}\n")
    found = settings("--config", tmp_path / "experiment.yaml", tmp_path / "other.csv")
    assert (found.data, found.head.d_model) == (DataSettings(tmp_path / "other.csv"), 64)
    found = settings("--config", tmp_path / "experiment.yaml", "--val-ratio", "0.1")
    assert found.data == DataSettings(tmp_path / "movies.csv", val_ratio=0.1)


def test_a_benchmark_replaces_its_own_folders_in_a_settings_file(lvu: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(dump_settings(settings(*lvu, "--d-model", "64")))
    config = ("--config", tmp_path / "settings.yaml")
    moved = DataSettings(protocol="lvu/scene", videos=tmp_path / "v", splits=tmp_path / "s")
    found = settings(*config, "--protocol", "lvu/scene", "--videos", tmp_path / "v", "--splits", tmp_path / "s")
    assert (found.data, found.head.d_model) == (moved, 64)
    found = settings(*config, "--videos", tmp_path / "v")
    assert found.data == dataclasses.replace(moved, splits=tmp_path)


@pytest.mark.parametrize(
    ("stored", "given", "message"),
    [
        ("lvu", "breakfast", "data.protocol='breakfast': .* own data set, whose protocol is 'lvu/scene'"),
        ("lvu", "csv", "data.protocol=None: .* own data set, whose protocol is 'lvu/scene'"),
        ("csv", "breakfast", "data.protocol='breakfast': .* own data set, whose protocol is None"),
    ],
)
def test_a_settings_file_is_not_mixed_with_another_benchmark(
    lvu: list[str | Path], breakfast: list[str | Path], tmp_path: Path, stored: str, given: str, message: str
) -> None:
    data_sets = {"lvu": lvu, "breakfast": breakfast, "csv": ["movies.csv"]}
    path = tmp_path / "settings.yaml"
    path.write_text(dump_settings(settings(*data_sets[stored])))
    with pytest.raises(ConfigError, match=rf"config='.*settings.yaml': {message}; leave out --config, or remove"):
        settings("--config", path, *data_sets[given])


def test_settings_without_a_data_set_go_with_any(breakfast: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("head: {d_model: 64}\n")
    config = ("--config", tmp_path / "small.yaml")
    assert settings(*config, *breakfast) == settings(*breakfast, "--d-model", "64")
    assert settings(*config, "movies.csv").head.d_model == 64


def test_options_reset_what_a_file_or_a_benchmark_sets(breakfast: list[str | Path], tmp_path: Path) -> None:
    reset = ("--no-as-published", "--samples", "none", "--segments", "none")
    found = settings(*breakfast, *reset)
    (tmp_path / "settings.yaml").write_text(dump_settings(settings(*breakfast, "--as-published")))
    from_file = settings("--config", tmp_path / "settings.yaml", *reset)
    assert from_file == found
    assert not found.training.as_published
    assert (found.windows.samples, found.preprocessing.segments) == (None, None)


def test_a_benchmark_in_a_settings_file_brings_its_settings(lvu: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text("data: {protocol: lvu/scene, videos: ., splits: .}\nhead: {d_model: 64}\n")
    found = plan("--config", tmp_path / "scene.yaml").settings
    assert (found.head.name, found.head.d_model, found.training.schedule) == ("scene", 64, "plateau")
    assert found == settings(*lvu, "--d-model", "64")


def test_stored_settings_of_a_benchmark_are_read_back(breakfast: list[str | Path], tmp_path: Path) -> None:
    # Null values too: an explicit null must not fall back to the benchmark's value.
    found = settings(*breakfast, "--as-published", "--encoder", "swin3d_t")
    (tmp_path / "settings.yaml").write_text(dump_settings(found))
    assert settings("--config", tmp_path / "settings.yaml") == found


def test_the_test_split_is_used_only_as_published(lvu: list[str | Path], breakfast: list[str | Path]) -> None:
    for data, held_out in ((lvu, 1), (breakfast, 2)):
        found = plan(*data)
        assert (found.chosen_on, len(found.val)) == ("val", held_out)
        assert "test" not in {example.split for example in found.train + found.val}


def test_as_published_learns_from_and_chooses_on_the_published_splits(
    lvu: list[str | Path], breakfast: list[str | Path]
) -> None:
    found = plan(*lvu, "--as-published")
    assert (found.chosen_on, found.settings.training.schedule) == ("test", "plateau")
    assert [example.split for example in found.train] == ["train", "train"]
    assert [example.split for example in found.val] == ["test"]
    assert len(plan(*breakfast, "--as-published").train) == 11
    with pytest.raises(ConfigError, match="schedule='cosine'"):
        plan(*lvu, "--as-published", "--schedule", "cosine")


def test_a_split_whose_movies_are_all_missing_is_an_error(lvu: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "val.mp4").unlink()
    with pytest.raises(DataError, match=r"split='val': holds no movie; its movies are missing \(1\)"):
        plan(*lvu)
