"""Training on every device, in bfloat16: the loss decreases, and a run continues after its last epoch."""

import csv
import dataclasses
import math
from pathlib import Path

import av
import numpy as np
import pytest

import vis4mer
from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.training.config import TrainConfig
from vis4mer.training.settings import DataSettings, EncoderSettings, HeadSettings

DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of twelve dark or bright movies of five seconds."""
    folder = tmp_path_factory.mktemp("movies")
    rows = [("path", "label", "split")]
    for i, split in enumerate(["train"] * 8 + ["val"] * 2 + ["test"] * 2):
        name, brightness = f"{i}.mp4", 200 + 5 * i if i % 2 else 5 * i
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
            for _ in range(10):
                picture = np.full((32, 32, 3), brightness, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        rows.append((name, "bright" if i % 2 else "dark", split))
    with (folder / "movies.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "movies.csv"


@pytest.mark.parametrize("device", DEVICES)
def test_the_loss_decreases_and_a_run_continues(device: str, listing: Path, tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, batch_size=4, lr=1e-2, precision="bf16")
    settings = vis4mer.TrainSettings(
        DataSettings(listing),
        EncoderSettings("test_vit", "random"),
        Preprocessing(height=32, width=32),
        WindowConfig(seconds=4),
        HeadSettings(d_model=16, n_layers=2, d_state=4),
        config,
    )
    first = vis4mer.train(settings, tmp_path / "run", cache=tmp_path / "cache", device=device)
    assert [record["epoch"] for record in first.history] == [1]
    longer = dataclasses.replace(settings, training=dataclasses.replace(config, epochs=8))
    result = vis4mer.train(longer, tmp_path / "run", cache=tmp_path / "cache", device=device, resume=True)
    assert [record["epoch"] for record in result.history] == list(range(1, 9))
    assert result.history[0] == first.history[0]
    losses = [record["train_loss"] for record in result.history]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.7 * losses[0]
    movie = listing.parent / "11.mp4"
    prediction = vis4mer.load(result.last, device=device)(movie)
    assert prediction.device.startswith(device)
    assert prediction.label == "bright"
