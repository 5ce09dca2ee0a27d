import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from vis4mer.config import Preprocessing
from vis4mer.errors import DataError, VideoError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training import features as features_module
from vis4mer.training.features import FeatureCache, weights_digest
from vis4mer.video.reader import open_video

PREPROCESSING = Preprocessing(fps=2, height=32, width=32)
ENCODER = "vit_tiny_patch16_224"


def write_video(path: Path, seconds: int, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4, width=64, height=48, pix_fmt="yuv420p")
        for _ in range(4 * seconds):
            colour = generator.integers(0, 256, (1, 1, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.tile(colour, (48, 64, 1)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    return FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=0)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "movie.mp4", seconds=5)


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the video was opened")

    monkeypatch.setattr(features_module, "open_video", fail)


def test_tokens_are_the_encoders(tmp_path: Path, encoder: FrameEncoder, video: Path) -> None:
    with open_video(video, PREPROCESSING, batch_size=1000) as reader, torch.inference_mode():
        (batch,) = list(reader)
        expected = encoder.eval()(torch.from_numpy(batch.frames))
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, dtype="fp32", batch_size=4)
    tokens = cache.tokens(video)
    assert (tokens.frames, tokens.tokens, tokens.features) == tuple(expected.shape) == (10, 5, 192)
    torch.testing.assert_close(tokens.read(0, 10), expected)

    half = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, batch_size=4).tokens(video)
    assert torch.equal(half.read(0, 10), tokens.read(0, 10).bfloat16())


@pytest.mark.usefixtures("no_encoding")
def test_a_video_is_encoded_once(
    tmp_path: Path, encoder: FrameEncoder, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(features_module, "open_video", open_video)
        first = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING).tokens(video)
    again = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    assert again.tokens(video) == first
    monkeypatch.chdir(tmp_path)
    assert again.tokens(Path("movie.mp4")) == first


def test_whatever_changes_the_tokens_changes_the_folder(tmp_path: Path, encoder: FrameEncoder) -> None:
    other_weights = FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=1)
    faster = dataclasses.replace(PREPROCESSING, fps=4)
    caches = [
        FeatureCache(tmp_path, encoder, PREPROCESSING),
        FeatureCache(tmp_path, encoder, PREPROCESSING, dtype="fp32"),
        FeatureCache(tmp_path, encoder, faster),
        FeatureCache(tmp_path, other_weights, PREPROCESSING),
    ]
    assert len({cache.folder for cache in caches}) == len(caches)
    assert FeatureCache(tmp_path, encoder, PREPROCESSING, batch_size=1).folder == caches[0].folder
    told = json.loads((caches[2].folder / "encoder.json").read_text())
    assert told["preprocessing"]["fps"] == 4
    assert told["encoder"] == encoder.config.to_dict()


def test_one_bit_of_one_weight_changes_the_digest(encoder: FrameEncoder) -> None:
    before = weights_digest(encoder)
    assert weights_digest(FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=0)) == before
    other = FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=0)
    last = list(other.parameters())[-1]
    last.data[-1] = torch.nextafter(last.data[-1], torch.tensor(9.0))
    assert weights_digest(other) != before


def test_a_changed_video_is_encoded_anew(tmp_path: Path, encoder: FrameEncoder, video: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    before = cache.tokens(video)
    write_video(video, seconds=7, seed=1)
    after = cache.tokens(video)
    assert before.path != after.path
    assert (before.frames, after.frames) == (10, 14)
    other = write_video(tmp_path / "other.mp4", seconds=7, seed=1)
    assert cache.path(other) != after.path


class _Interrupted:
    """An encoder that is stopped after its first batch."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self.encoder, self.calls = encoder, 0

    def __call__(self, frames: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        tokens: Tensor = self.encoder(frames)
        return tokens


def test_an_interrupted_encoding_leaves_no_file_and_starts_again_to_the_same_bytes(
    tmp_path: Path, encoder: FrameEncoder, video: Path
) -> None:
    whole = FeatureCache(tmp_path / "whole", encoder, PREPROCESSING, batch_size=4)
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, batch_size=4)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FrameEncoder, "forward", _Interrupted(FrameEncoder.forward.__get__(encoder)).__call__)
        cache.tokens(video)
    assert [path.name for path in cache.folder.iterdir()] == ["encoder.json"]
    assert cache.tokens(video).path.read_bytes() == whole.tokens(video).path.read_bytes()


def test_tokens_that_are_not_finite_are_refused(tmp_path: Path, video: Path) -> None:
    broken = FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=0)
    next(broken.parameters()).data.fill_(float("nan"))
    cache = FeatureCache(tmp_path / "cache", broken, PREPROCESSING)
    with pytest.raises(DataError, match=r"movie\.mp4.*NaN"):
        cache.tokens(video)
    assert not cache.path(video).exists()


def test_damage_is_reported(tmp_path: Path, encoder: FrameEncoder, caplog: pytest.LogCaptureFixture) -> None:
    video = write_video(tmp_path / "movie.mkv", seconds=5)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    tokens = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING).tokens(video)
    assert 0 < tokens.frames <= 10
    assert "movie.mkv" in caplog.text


def test_a_file_that_is_no_video(tmp_path: Path, encoder: FrameEncoder) -> None:
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    text = tmp_path / "movie.mp4"
    text.write_text("no video")
    with pytest.raises(VideoError, match=r"movie\.mp4"):
        cache.tokens(text)
    with pytest.raises(DataError, match=r"nowhere\.mp4"):
        cache.tokens(tmp_path / "nowhere.mp4")


def test_a_cache_that_cannot_be_written(tmp_path: Path, encoder: FrameEncoder) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache=.*file"):
        FeatureCache(tmp_path / "file", encoder, PREPROCESSING)


def test_a_full_disk(tmp_path: Path, encoder: FrameEncoder, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, batches: Iterator[Tensor], metadata: dict[str, str]) -> Sequence[object]:
        raise OSError(28, "No space left on device")

    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    monkeypatch.setattr(features_module, "write_tokens", full)
    with pytest.raises(DataError, match=r"cannot be written.*No space left"):
        cache.tokens(video)
