"""`vis4mer.extract`, `vis4mer.train` and `vis4mer.evaluate` as a program calls them."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import vis4mer
from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.devices.device import CPU, Device, Driver
from vis4mer.errors import ConfigError, DataError, VideoError, Vis4merError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training.config import TrainConfig
from vis4mer.training.data.dataset import DataSet
from vis4mer.training.launch import is_main_process, one_error_per_machine
from vis4mer.training.result import TrainingResult
from vis4mer.training.settings import DataSettings, EncoderSettings, HeadSettings
from vis4mer.training.settings_file import read_settings

ENCODER = EncoderSettings("test_vit", "random")
FRAMES = Preprocessing(height=32, width=32)


def write_video(path: Path, brightness: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(10):
            image = np.full((32, 32, 3), brightness, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of four movies to train on, two to validate and two to test on."""
    folder = tmp_path_factory.mktemp("movies")
    rows = ["path,label,split"]
    for i, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        write_video(folder / f"{i}.mp4", brightness=255 - i if i % 2 else i)
        rows.append(f"{i}.mp4,{'bright' if i % 2 else 'dark'},{split}")
    (folder / "movies.csv").write_text("\n".join(rows))
    return folder / "movies.csv"


def settings(movies: Path) -> vis4mer.TrainSettings:
    return vis4mer.TrainSettings(
        DataSettings(movies),
        ENCODER,
        FRAMES,
        WindowConfig(seconds=4),
        HeadSettings(d_model=16, n_layers=2, d_state=4),
        TrainConfig(epochs=2, batch_size=2, lr=1e-2),
    )


def test_a_program_extracts_trains_and_evaluates(movies: Path, tmp_path: Path) -> None:
    cache, updates = tmp_path / "cache", dict[str, list[tuple[float, float]]]()

    def progress(task: str, done: float, total: float) -> None:
        updates.setdefault(task, []).append((done, total))

    extraction = vis4mer.extract(
        movies.parent,
        cache,
        vis4mer.ExtractSettings(encoder=ENCODER, preprocessing=FRAMES),
        device="cpu",
        progress=progress,
    )
    assert (extraction.n_videos, extraction.n_encoded, extraction.errors) == (8, 8, ())
    encoded = {path: path.stat().st_mtime_ns for path in extraction.folder.glob("*.safetensors")}
    assert len(encoded) == 8

    figures: list[float] = []
    result = vis4mer.train(
        settings(movies),
        tmp_path / "run",
        cache=cache,
        device="cpu",
        progress=progress,
        on_epoch=lambda record: figures.append(record["epoch"]),
    )
    assert figures == [record["epoch"] for record in result.history] == [1, 2]
    assert result.best_epoch in result.history
    assert vis4mer.load(result.best, device="cpu")(movies.parent / "0.mp4").label in ("bright", "dark")

    (report,) = vis4mer.evaluate(result.last, movies=movies, cache=cache, device="cpu", progress=progress)
    assert (report.name, report.movies, report.labels) == ("movies.csv", 2, ("bright", "dark"))
    assert report.confusion().sum() == 2
    # Neither training nor evaluation has encoded a movie again.
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == encoded

    assert list(updates) == [
        "encoding videos",
        "encoding movies",
        "training, steps",
        "encoding test movies",
    ]
    assert [values[-1] for values in updates.values()] == [(8, 8), (6, 6), (4, 4), (2, 2)]
    for values in updates.values():
        assert [done for done, _ in values] == sorted(done for done, _ in values)


def test_failed_videos_are_returned_and_logged(movies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    extraction = vis4mer.extract(
        [tmp_path / "bad.mp4", str(movies.parent / "0.mp4")],
        tmp_path / "cache",
        vis4mer.ExtractSettings(encoder=ENCODER, preprocessing=FRAMES),
        device="cpu",
    )
    (message,) = extraction.errors
    assert "bad.mp4" in message
    assert message in caplog.text
    assert (extraction.n_videos, extraction.n_encoded) == (2, 1)


def test_training_leaves_out_unreadable_movies_on_request(
    movies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad.mp4", "worse.mp4"):
        (tmp_path / name).write_text("no video")
    rows = movies.read_text().replace("\n", f"\n{movies.parent}/").splitlines()
    listing = tmp_path / "movies.csv"
    listing.write_text("\n".join([*rows, "bad.mp4,dark,train", "gone.mp4,dark,train", "worse.mp4,bright,val"]))

    def run(output: str, **data: bool) -> TrainingResult:
        chosen = dataclasses.replace(settings(movies), data=DataSettings(listing, **data))  # type: ignore[arg-type]
        return vis4mer.train(chosen, tmp_path / output, cache=tmp_path / "cache", device="cpu")

    with pytest.raises(DataError, match=r"line 11: no such video: .*gone\.mp4"):
        run("refused")
    result = run("run", skip_unreadable=True)
    assert result.skipped == ("bad.mp4", "worse.mp4")
    (left_out,) = (message for message in caplog.messages if message.startswith("left out"))
    assert left_out.startswith("left out 2 of 8 movies: ")
    assert "bad.mp4" in left_out
    assert "worse.mp4" in left_out
    record = json.loads((result.last / "training.json").read_text())["data"]
    assert (record["train"], record["val"]) == (4, 2)
    assert record["skipped"] == {"train": ["bad.mp4"], "val": ["worse.mp4"], "test": []}
    assert record["missing"] == {"train": ["gone.mp4"], "val": [], "test": []}

    (tmp_path / "gone.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        run("refused")

    # The settings hold the choice, so a repetition or continuation of the run makes the same.
    assert read_settings(tmp_path / "run" / "settings.yaml").data.skip_unreadable


def test_training_ends_if_no_movie_of_a_label_can_be_read(movies: Path, tmp_path: Path) -> None:
    rows = movies.read_text().replace("\n", f"\n{movies.parent}/").splitlines()
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "movies.csv").write_text("\n".join([*rows, "bad.mp4,grey,train"]))
    data = DataSettings(tmp_path / "movies.csv", skip_unreadable=True)
    with pytest.raises(DataError, match="label='grey': none of its training movies can be read"):
        vis4mer.train(dataclasses.replace(settings(movies), data=data), tmp_path / "run", device="cpu")


def test_a_finished_run_is_not_computed_again(
    movies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = vis4mer.train(settings(movies), tmp_path / "run", cache=tmp_path / "cache", device="cpu")
    monkeypatch.setattr(FrameEncoder, "build", None)  # no weights are needed either
    with caplog.at_level(logging.INFO, "vis4mer"):
        again = vis4mer.train(settings(movies), tmp_path / "run", resume=True, device="cpu")
    assert again == first
    assert caplog.messages == [f"the run in {tmp_path / 'run'} is finished: 2 epochs of 2"]
    assert not (tmp_path / "run" / "features").exists()
    other = dataclasses.replace(settings(movies), training=TrainConfig(epochs=2, batch_size=2, lr=0.5))
    with pytest.raises(ConfigError, match=r"lr: is 0\.5 now, was 0\.01"):
        vis4mer.train(other, tmp_path / "run", resume=True, device="cpu")


def test_a_resumed_run_uses_the_cache_that_it_began_with(
    movies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vis4mer.train(settings(movies), tmp_path / "run", cache=tmp_path / "cache", device="cpu")
    for epochs in (3, 4):
        longer = dataclasses.replace(settings(movies), training=TrainConfig(epochs=epochs, batch_size=2, lr=1e-2))
        vis4mer.train(longer, tmp_path / "run", resume=True, device="cpu")
        assert not (tmp_path / "run" / "features").exists()
    shutil.rmtree(tmp_path / "cache")
    longer = dataclasses.replace(settings(movies), training=TrainConfig(epochs=5, batch_size=2, lr=1e-2))
    vis4mer.train(longer, tmp_path / "run", resume=True, device="cpu")
    assert f"the cache of the run, {tmp_path / 'cache'}, no longer exists" in caplog.text
    assert len(list((tmp_path / "run" / "features").rglob("*.safetensors"))) == 6


def test_windows_longer_than_every_movie_are_mentioned(
    movies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = dataclasses.replace(settings(movies), windows=WindowConfig(seconds=60))
    vis4mer.train(long, tmp_path / "run", device="cpu")
    assert (
        "windows of 60 s are longer than every training movie, so they end with zeros; the longest movie has 5 s"
        in caplog.messages
    )
    caplog.clear()
    exact = dataclasses.replace(settings(movies), windows=WindowConfig(seconds=5))
    vis4mer.train(exact, tmp_path / "exact", cache=tmp_path / "run" / "features", device="cpu")
    assert caplog.messages == []


@pytest.mark.slow
def test_several_workers_encode_the_same_tokens(movies: Path, tmp_path: Path) -> None:
    contents = []
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # as in each of two workers; sums depend on it
    for workers in (1, 2):
        extraction = vis4mer.extract(
            movies.parent,
            tmp_path / str(workers),
            vis4mer.ExtractSettings(encoder=ENCODER, preprocessing=FRAMES),
            workers=workers,
            device="cpu",
        )
        assert extraction.n_encoded == 8
        contents.append({path.name: path.read_bytes() for path in extraction.folder.iterdir()})
    torch.set_num_threads(threads)
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("device", "used"),
    [
        ("cuda", [Device("cuda", 0), Device("cuda", 1)]),
        ("cuda:0", [Device("cuda", 0)]),
        (Device("cuda", 1), [Device("cuda", 1)]),
        ("auto", [Device("cuda", 0), Device("cuda", 1)]),
        (CPU, [CPU]),
    ],
)
def test_workers_share_all_gpus_unless_one_is_requested(
    movies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str | Device, used: list[Device]
) -> None:
    seen: list[list[Device]] = []

    def note(recipe: object, jobs: object, n_workers: int, devices: list[Device], *rest: object) -> Iterator[Any]:
        seen.append(devices)
        return iter(())

    for module in ("vis4mer.devices.device", "vis4mer.training.extract"):
        monkeypatch.setattr(f"{module}.probe_driver", lambda: Driver("13.0", ("one", "other"), ""))
    monkeypatch.setattr("vis4mer.models.placement.to_device", lambda module, device: module)
    monkeypatch.setattr("vis4mer.training.tokens.workers.encode_in_workers", note)
    extract_settings = vis4mer.ExtractSettings(encoder=ENCODER, preprocessing=FRAMES)
    vis4mer.extract(movies.parent, tmp_path, extract_settings, workers=2, device=device)
    assert seen == [used]


def test_a_device_is_checked_first_and_may_be_an_object(movies: Path, tmp_path: Path) -> None:
    for call in (
        lambda device: vis4mer.train(settings(movies), tmp_path / "run", device=device),
        lambda device: vis4mer.extract(movies.parent, tmp_path / "cache", device=device),
    ):
        with pytest.raises(ConfigError, match="device='tpu': must be auto"):
            call("tpu")
    assert not list(tmp_path.iterdir())
    extract_settings = vis4mer.ExtractSettings(encoder=ENCODER, preprocessing=FRAMES)
    assert vis4mer.extract(movies.parent / "0.mp4", tmp_path, extract_settings, device=CPU).n_encoded == 1
    one_epoch = dataclasses.replace(settings(movies), training=TrainConfig(epochs=1, batch_size=2))
    assert vis4mer.train(one_epoch, tmp_path / "run", device=CPU).best.is_dir()


def test_arguments_that_do_not_fit_are_named(movies: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"splits=.*needs a protocol"):
        vis4mer.extract(movies.parent, tmp_path, splits=tmp_path)
    with pytest.raises(ConfigError, match="movies=None: there is no data set"):
        vis4mer.evaluate(tmp_path)
    with pytest.raises(ConfigError, match="cannot be combined with a protocol"):
        vis4mer.evaluate(tmp_path, movies=movies, protocol="coin", videos=tmp_path, splits=tmp_path)
    with pytest.raises(DataError, match="no such file"):
        vis4mer.train(settings(tmp_path / "gone.csv"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_importing_the_functions_does_not_import_torch() -> None:
    program = "import sys, vis4mer; vis4mer.train, vis4mer.extract, vis4mer.evaluate, vis4mer.TrainSettings\n"
    program += "print([name for name in ('torch', 'timm', 'click', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_one_process_per_machine_reports_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vis4mer.training.launch.GRACE_SECONDS", 0)

    def fail() -> None:
        with one_error_per_machine():
            raise ConfigError("lr=0: must be positive")

    assert is_main_process()
    with pytest.raises(Vis4merError):
        fail()
    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_main_process()
    with pytest.raises(SystemExit) as ended:
        fail()
    assert ended.value.code == 1


def test_missing_movies_are_logged_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.mp4").touch()
        rows = ["class_id class_name youtube_id", f"0 office {split}"]
        (folder / f"{split}.csv").write_text("\n".join([*rows, "1 jail gone"] if split == "test" else rows))
    data = DataSet.read(DataSettings(protocol="lvu/scene", videos=tmp_path, splits=tmp_path))
    assert data.listing.missing_names("test") == ("gone",)
    with caplog.at_level(logging.WARNING):
        data.listing.warn_missing(data.name)
    assert caplog.messages == ["1 of 4 videos of lvu/scene are missing: gone"]
