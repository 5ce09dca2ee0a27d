"""All commands in a row: from movies in the layout of LVU to a table of results, a bundle and a prediction."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from vis4mer.cli.main import main

_CLASSES = ("friends", "wife", "husband", "boss")
_MOVIES = {"train": 8, "val": 4, "test": 4}


def vis4mer(*arguments: str | Path) -> str:
    """Runs a command and returns its output."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def write_movie(path: Path, colour: int) -> None:
    """Writes seven seconds of the colour of a class with some noise."""
    rng = np.random.default_rng(len(path.stem) + colour)
    base = np.eye(4)[colour][1:] * 200 + 20
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(14):
            image = (base + rng.uniform(0, 30, (32, 32, 3))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def lvu(tmp_path: Path) -> Path:
    """Writes videos and the split files of one task; the last test video is missing."""
    root = tmp_path / "lvu"
    (root / "videos").mkdir(parents=True)
    (root / "relationship").mkdir()
    for split, count in _MOVIES.items():
        rows = ["class_id class_name youtube_id imdb_id"]
        for i in range(count):
            name = f"{split}-{i:02}"
            rows.append(f"{i % 4} {_CLASSES[i % 4]} {name} tt0000000")
            if (split, i) != ("test", 3):
                write_movie(root / "videos" / f"{name}.mp4", i % 4)
        (root / "relationship" / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return root


def test_from_movies_to_a_table_a_bundle_and_a_prediction(lvu: Path, tmp_path: Path) -> None:
    cache, run, bundle = tmp_path / "cache", tmp_path / "run", tmp_path / "bundle"
    data = ("--protocol", "lvu/relationship", "--splits", lvu)
    encoder = ("--encoder", "test_vit", "--image-size", "32")

    assert "15 of 15 videos" in vis4mer(
        *("extract", lvu / "videos", "-o", cache, *data, *encoder, "--encoder-weights", "random", "--device", "cpu")
    )
    encoded = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    assert len(encoded) == 15

    vis4mer(
        *("train", *data, "--videos", lvu / "videos", "-o", run, "--cache", cache, "--epochs", "2", "--device", "cpu"),
        *(*encoder, "--encoder-weights", "random", "--window-seconds", "4", "--stride", "2"),
        *("--d-model", "16", "--n-layers", "2", "--d-state", "4", "--lr", "1e-2"),
    )
    assert len((run / "history.jsonl").read_text().splitlines()) == 2

    table = vis4mer(
        "eval", run / "best", "--videos", lvu / "videos", "--splits", lvu, "--cache", cache, "--device", "cpu"
    )
    assert "57.14" in table
    assert "3 of 4" in table
    assert "1 missing: test-03" in table
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == encoded

    vis4mer("export", "--checkpoint", run / "best", "--format", "onnx", "--output", bundle)
    answers = [
        json.loads(
            vis4mer(
                *("run", lvu / "videos" / "test-00.mp4", "--bundle", model, "--device", "cpu"),
                *("--video-decoder", "pyav", "--output-format", "json"),
            )
        )[0]["heads"]["relationship"]
        for model in (run / "best", bundle)
    ]
    assert tuple(sorted(answers[0]["probabilities"])) == tuple(sorted(_CLASSES))
    assert len(answers[0]["windows"]) == 3
    assert answers[1]["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-4)
