"""`vis4mer.extract`, `vis4mer.train` and `vis4mer.evaluate` as a program calls them."""

import dataclasses
import logging
import os
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
from vis4mer.errors import ConfigError, DataError, Vis4merError
from vis4mer.training.config import TrainConfig
from vis4mer.training.data.dataset import DataSet
from vis4mer.training.launch import is_main_process, one_error_per_machine
from vis4mer.training.settings import DataSettings, EncoderSettings, HeadSettings

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
        "encoding train movies",
        "encoding val movies",
        "training, steps",
        "encoding test movies",
        "testing windows",
    ]
    assert [values[-1] for values in updates.values()] == [(8, 8), (4, 4), (2, 2), (4, 4), (2, 2), (4, 4)]
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
