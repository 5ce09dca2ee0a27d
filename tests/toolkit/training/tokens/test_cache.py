import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.errors import DataError, DeviceError, VideoError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training.data.listing import Example
from vis4mer.training.distributed import ALONE
from vis4mer.training.progress import ignore_progress
from vis4mer.training.tokens import cache as cache_module
from vis4mer.training.tokens.cache import FeatureCache, weights_digest
from vis4mer.training.tokens.encoding import encode_examples
from vis4mer.training.tokens.files import TokenFile
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

    monkeypatch.setattr(cache_module, "open_video", fail)


def test_tokens_are_the_encoders_output(tmp_path: Path, encoder: FrameEncoder, video: Path) -> None:
    with open_video(video, PREPROCESSING, batch_size=1000) as reader, torch.inference_mode():
        (batch,) = list(reader)
        expected = encoder.eval()(torch.from_numpy(batch.frames))
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, dtype="fp32", batch_size=4)
    tokens = cache.tokens(video)
    assert (tokens.n_frames, tokens.tokens_per_frame, tokens.features) == tuple(expected.shape) == (10, 5, 192)
    torch.testing.assert_close(tokens.read(0, 10), expected)

    half = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, batch_size=4).tokens(video)
    assert torch.equal(half.read(0, 10), tokens.read(0, 10).bfloat16())


@pytest.mark.usefixtures("no_encoding")
def test_a_video_is_encoded_once(
    tmp_path: Path, encoder: FrameEncoder, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "open_video", open_video)
        first = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING).tokens(video)
    again = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    assert again.tokens(video) == first
    monkeypatch.chdir(tmp_path)
    assert again.tokens(Path("movie.mp4")) == first


def test_every_setting_that_changes_the_tokens_changes_the_folder(tmp_path: Path, encoder: FrameEncoder) -> None:
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
    description = json.loads((caches[2].folder / "encoder.json").read_text())
    assert description["preprocessing"]["fps"] == 4
    assert description["encoder"] == encoder.config.to_dict()


def test_one_bit_of_one_weight_changes_the_digest(encoder: FrameEncoder) -> None:
    before = weights_digest(encoder)
    assert weights_digest(FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=0)) == before
    other = FrameEncoder.build(ENCODER, PREPROCESSING, "random", seed=0)
    last = list(other.parameters())[-1]
    last.data[-1] = torch.nextafter(last.data[-1], torch.tensor(9.0))
    assert weights_digest(other) != before


def test_a_changed_video_is_encoded_again(tmp_path: Path, encoder: FrameEncoder, video: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    before = cache.tokens(video)
    write_video(video, seconds=7, seed=1)
    after = cache.tokens(video)
    assert before.path != after.path
    assert (before.n_frames, after.n_frames) == (10, 14)
    other = write_video(tmp_path / "other.mp4", seconds=7, seed=1)
    assert cache.path(other) != after.path


class _Interrupted:
    """An encoder that is interrupted after its first batch."""

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


def test_damage_is_reported(tmp_path: Path, encoder: FrameEncoder) -> None:
    video = write_video(tmp_path / "movie.mkv", seconds=5)
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    cache.tokens(video)
    assert cache.damage == {}
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    tokens = cache.tokens(video)
    assert 0 < tokens.n_frames <= 10
    assert cache.damage[video, None][0] == "the file ends before the duration that its header declares"


def test_damage_of_many_videos_is_one_line(
    tmp_path: Path, encoder: FrameEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    videos = [write_video(tmp_path / f"{i}.mkv", seconds=5) for i in range(7)]
    for video in videos:
        video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    examples = [Example(video, 0, "train") for video in videos]
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    for _ in range(2):  # the second time, the cache holds all of them
        encode_examples(cache, examples, "encoding", ALONE, ignore_progress)
    (message,) = caplog.messages
    assert message.startswith("encoded the readable part of 7 videos: 0.mkv (the file ends before")
    assert message.endswith(" and 2 more")


def test_a_file_that_is_not_a_video(tmp_path: Path, encoder: FrameEncoder) -> None:
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    text = tmp_path / "movie.mp4"
    text.write_text("no video")
    with pytest.raises(VideoError, match=r"movie\.mp4"):
        cache.tokens(text)
    with pytest.raises(DataError, match=r"nowhere\.mp4"):
        cache.tokens(tmp_path / "nowhere.mp4")


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, encoder: FrameEncoder) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache=.*file"):
        FeatureCache(tmp_path / "file", encoder, PREPROCESSING)


def test_a_cache_of_another_encoder_is_refused_before_anything_is_written(
    tmp_path: Path, encoder: FrameEncoder, video: Path
) -> None:
    faster = dataclasses.replace(PREPROCESSING, fps=4)
    other = FeatureCache(tmp_path / "cache", encoder, faster)
    FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, refuse_others=True)  # no tokens yet
    path = other.tokens(video).path
    shutil.rmtree(FeatureCache(tmp_path / "cache", encoder, PREPROCESSING).folder)
    description = path.parent / "encoder.json"
    whole = description.read_bytes()
    for content, difference in (
        (whole, r"frames \(preprocessing.fps is 4 there and 2 here\)"),
        (whole[:-9], r"\w+/encoder.json is damaged"),
        (b"[]", r"\w+/encoder.json is damaged"),
        (b'{"preprocessing": 3}', "preprocessing is 3 there and {'fps': 2.*"),
        (10000 * b"[", r"\w+/encoder.json is damaged"),
    ):
        description.write_bytes(content)
        with pytest.raises(DataError, match=rf"cache=.*: comes from another .*{difference}.*; use the same"):
            FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, refuse_others=True)
        assert [folder.name for folder in (tmp_path / "cache").iterdir()] == [path.parent.name]

    FeatureCache(tmp_path / "cache", encoder, PREPROCESSING).tokens(video)
    FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, refuse_others=True)


def test_a_full_disk_is_a_data_error(
    tmp_path: Path, encoder: FrameEncoder, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, batches: Iterator[Tensor], metadata: dict[str, str]) -> Sequence[object]:
        raise OSError(28, "No space left on device")

    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING)
    monkeypatch.setattr(cache_module, "write_tokens", full)
    with pytest.raises(DataError, match=r"cannot be written.*No space left"):
        cache.tokens(video)


class _Brightness(FrameEncoder):
    """Encodes a segment to one token, the mean of each of its frames, which identifies the frames."""

    def __init__(self, frames: int) -> None:
        torch.nn.Module.__init__(self)
        self.config = EncoderConfig("brightness", tokens=1, features=frames, frames=frames)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, frames: Tensor) -> Tensor:
        return self.scale * frames.float().mean((2, 3, 4))[:, None]


def write_ramp(path: Path, frames: int) -> Path:
    """Writes a lossless movie of 10 frames a second in which frame i has the brightness 2 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10, width=32, height=32, pix_fmt="bgr0")
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 2 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_segments_are_spread_over_the_movie_or_a_clip_of_it(tmp_path: Path, batch_size: int) -> None:
    preprocessing = Preprocessing(height=32, width=32, segments=6)
    ramp = write_ramp(tmp_path / "ramp.mkv", frames=100)
    cache = FeatureCache(tmp_path / "cache", _Brightness(4), preprocessing, dtype="fp32", batch_size=batch_size)

    def numbers(tokens: TokenFile) -> list[list[int]]:
        assert (tokens.tokens_per_frame, tokens.features) == (1, 4)
        return (tokens.read(0, tokens.n_frames)[:, 0] / 2).int().tolist()

    assert numbers(cache.tokens(ramp)) == [list(range(i * 16, i * 16 + 4)) for i in range(6)]
    clip = cache.tokens(ramp, (3.0, 4.0))
    assert numbers(clip) == [list(range(30 + i, 34 + i)) for i in range(6)]
    assert numbers(cache.tokens(ramp, (3.0, 3.6))) == [[30, 31, 32, 33], [31, 32, 33, 34]]
    assert numbers(cache.tokens(ramp, (3.0, 3.2))) == [[30, 31, 31, 31]]
    assert cache.tokens(ramp, (3.0, 4.0)) == clip


def test_progress_counts_the_frames_that_were_read(tmp_path: Path, encoder: FrameEncoder, video: Path) -> None:
    seen: list[tuple[int, int]] = []
    cache = FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, batch_size=4)
    cache.tokens(video, progress=lambda done, expected: seen.append((done, expected)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_the_index_describes_each_file_independently_of_their_order(
    tmp_path: Path, encoder: FrameEncoder, video: Path
) -> None:
    other = write_video(tmp_path / "z\u00f6.mp4", seconds=3, seed=1)
    first = FeatureCache(tmp_path / "first", encoder, PREPROCESSING)
    whole, part, last = first.tokens(video), first.tokens(video, (0.5, 2.5)), first.tokens(other)
    index = first.write_index()
    shape = {"tokens": 5, "features": 192}
    assert json.loads(index.read_text()) == {
        whole.path.name: {"video": "movie.mp4", "frames": 10, **shape},
        part.path.name: {"video": "movie.mp4", "clip": [0.5, 2.5], "frames": 4, **shape},
        last.path.name: {"video": "z\u00f6.mp4", "frames": 6, **shape},
    }
    second = FeatureCache(tmp_path / "second", encoder, PREPROCESSING)
    second.tokens(other), second.tokens(video), second.write_index(), second.tokens(video, (0.5, 2.5))
    assert second.write_index().read_bytes() == index.read_bytes()


def test_a_device_without_memory_is_a_one_line_error(tmp_path: Path, encoder: FrameEncoder, video: Path) -> None:
    def exhausted(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameEncoder, "forward", exhausted)
        with pytest.raises(DeviceError, match=r"batch_size=7: .* lower it"):
            FeatureCache(tmp_path / "cache", encoder, PREPROCESSING, batch_size=7).tokens(video)
