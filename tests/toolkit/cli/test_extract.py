import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from vis4mer.cli.console import show_log_messages
from vis4mer.cli.main import main
from vis4mer.config import Preprocessing
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training.data.videos import EncodingJob
from vis4mer.training.progress import ignore_progress
from vis4mer.training.settings import EncoderSettings, ExtractSettings
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.workers import CacheRecipe, encode_in_workers

SMALL = ("--encoder", "vit_tiny_patch16_224", "--encoder-weights", "random", "--image-size", "32", "--device", "cpu")


def write_video(path: Path, seed: int, frames: int = 12) -> Path:
    generator = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(frames):
            image = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for i in range(4):
        write_video(folder / "sub" / f"{i}.mp4", seed=i)
    return folder


def extract(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["extract", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_encoded_once_into_the_cache_of_training(videos: Path, tmp_path: Path) -> None:
    result = extract(videos, "-o", tmp_path / "cache", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith(": 4 of 4 videos, 4 encoded now\n")
    assert "encoding 4 of 4 videos on cpu" in result.stderr
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 4

    encoder = FrameEncoder.build("vit_tiny_patch16_224", Preprocessing(height=32, width=32), "random")
    cache = FeatureCache(tmp_path / "cache", encoder, Preprocessing(height=32, width=32))
    assert {cache.path(path) for path in videos.rglob("*.mp4")} == set(before)
    index = json.loads((cache.folder / "index.json").read_text())
    assert {name: entry["video"] for name, entry in index.items()} == {
        cache.path(path).name: path.name for path in videos.rglob("*.mp4")
    }

    again = extract(videos, "-o", tmp_path / "cache", *SMALL)
    assert again.stdout.endswith(": 4 of 4 videos, 0 encoded now\n")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_frames_or_weights_go_to_another_folder(videos: Path, tmp_path: Path) -> None:
    video = videos / "sub" / "0.mp4"
    for changed in ([], ["--fps", "2"], ["--seed", "1"], ["--cache-dtype", "fp32"], ["--image-size", "48"]):
        assert extract(video, "-o", tmp_path, *SMALL, *changed).exit_code == 0
    assert len({path.parent for path in tmp_path.rglob("*.safetensors")}) == 5


def test_a_bad_video_is_reported_and_the_others_are_encoded(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "list.txt").write_text(f"bad.mp4\n{videos}/sub/0.mp4\n{videos}/sub/gone.mp4\n{videos}/sub/1.mp4\n")
    result = extract(tmp_path / "list.txt", "-o", tmp_path / "cache", "-q", *SMALL)
    assert result.exit_code == 1
    bad, gone = result.stderr.splitlines()
    assert "bad.mp4" in bad
    assert "gone.mp4" in gone
    assert result.stdout.endswith(": 2 of 4 videos, 2 encoded now\n")
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_the_clips_of_a_protocol_are_encoded_and_missing_videos_are_named(videos: Path, tmp_path: Path) -> None:
    fact = {"class": "Task", "recipe_type": 3, "start": 0.5, "end": 2.5}
    database = {str(i): fact | {"subset": "training" if i else "testing"} for i in range(4)} | {
        name: fact | {"subset": "testing"} for name in ("gone-1", "gone-2")
    }
    (tmp_path / "COIN.json").write_text(json.dumps({"database": database}))
    options = ("--protocol", "coin", "--splits", tmp_path, "--encoder-weights", "random", "--device", "cpu")
    small = ("--encoder", "swin3d_t", "--segments", "2", "--image-size", "32")
    result = extract(videos, "-o", tmp_path / "cache", *options, *small)
    assert result.exit_code == 0, result.stderr
    assert "2 of 6 videos of coin are missing: gone-1, gone-2" in result.stderr
    (index,) = tmp_path.rglob("index.json")
    shape = {"frames": 1, "tokens": 1, "features": 768}
    expected = [{"video": f"{i}.mp4", "clip": [0.5, 2.5], **shape} for i in range(4)]
    assert sorted(json.loads(index.read_text()).values(), key=lambda entry: entry["video"]) == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--splits", "."], 2, "--splits requires --protocol"),
        (["--workers", "0"], 2, "--workers"),
        (["--protocol", "lvu"], 1, "protocol='lvu': must be one of"),
        (["--segments", "5"], 1, "segments=5: must be set for encoders that take segments"),
        (["--encoder", "swin3d_t"], 1, "segments=None: must be set"),
        (["--encoder", "no_such_model"], 1, "encoder='no_such_model'"),
        (["--image-size", "9000"], 1, "height=9000"),
        (["--encoder-weights", "nowhere.pth"], 1, "nowhere.pth"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_encoded(
    videos: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    result = extract(videos, "-o", tmp_path / "cache", *SMALL, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_interrupted_run_continues_to_the_same_bytes(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = FrameEncoder.forward, iter(range(100))

    def interrupted(encoder: FrameEncoder, frames: Tensor) -> Tensor:
        if next(calls) == 3:  # in the middle of the second video
            raise KeyboardInterrupt
        return forward(encoder, frames)

    options = (*SMALL, "--fps", "4", "--batch-size", "6")
    with monkeypatch.context() as patch:
        patch.setattr(FrameEncoder, "forward", interrupted)
        stopped = extract(videos, "-o", tmp_path / "cut", *options)
    assert stopped.exit_code == 130
    assert "run the same command again to continue" in stopped.stderr
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert extract(videos, "-o", tmp_path / "cut", *options).stdout.endswith("4 of 4 videos, 3 encoded now\n")
    assert extract(videos, "-o", tmp_path / "whole", *options).exit_code == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_workers_that_cannot_start_are_reported_without_a_traceback(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = EncoderSettings("vit_tiny_patch16_224", "random")
    recipe = CacheRecipe(tmp_path, ExtractSettings(encoder=encoder, preprocessing=Preprocessing(height=32, width=32)))
    jobs = [EncodingJob(path) for path in sorted(videos.rglob("*.mp4"))]
    on_start = partial(show_log_messages, True)
    with pytest.raises(
        DeviceError, match=r"workers=2: a worker died, .*; run the same command again with fewer workers"
    ):
        list(encode_in_workers(recipe, jobs, 2, [Device("meta")], "encoding", ignore_progress, on_start))
    messages = capfd.readouterr().err
    assert "vis4mer: error: a worker cannot start on meta:0: " in messages
    assert "Traceback" not in messages


@pytest.mark.slow
def test_a_killed_run_ends_its_workers_and_continues_to_the_same_bytes(tmp_path: Path) -> None:
    for i in range(5):
        write_video(tmp_path / "videos" / f"{i}.mp4", seed=i, frames=80)
    options = (tmp_path / "videos", *SMALL, "--fps", "4", "-o")
    program = (sys.executable, "-m", "vis4mer.cli.main", "extract", *map(str, options))
    cut = tmp_path / "cut"
    with subprocess.Popen([*program, str(cut), "--workers", "2"], stderr=subprocess.PIPE) as process:
        while not list(cut.rglob("*.safetensors")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.stderr is not None
        process.stderr.read()  # ends when the workers have ended too, which hold it open
    assert not list(cut.rglob("index.json"))
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # a worker's: sums depend on it
    for folder in (cut, tmp_path / "whole"):
        assert extract(*options, folder).exit_code == 0
    torch.set_num_threads(threads)
    assert contents(cut) == contents(tmp_path / "whole")
    assert len(contents(cut)) == 5 + 2


def test_former_names_of_options_warn_and_work(videos: Path, tmp_path: Path) -> None:
    small = ("--encoder", "vit_tiny_patch16_224", "--image-size", "32", "--device", "cpu", "-q")
    result = extract(videos / "sub" / "0.mp4", "-o", tmp_path, *small, "--weights", "random", "--dtype", "fp32")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        "vis4mer: warning: --weights is now --encoder-weights; the next version removes the old name",
        "vis4mer: warning: --dtype is now --cache-dtype; the next version removes the old name",
    ]
    (description,) = tmp_path.rglob("encoder.json")
    assert json.loads(description.read_text())["dtype"] == "fp32"
