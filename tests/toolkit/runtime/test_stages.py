"""Other programs than the classifier compose the stages: a server, a live stream, a benchmark."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.runtime.aggregation import MovieAggregator
from vis4mer.runtime.overlap import Overlap
from vis4mer.runtime.stages import Stages, batched
from vis4mer.video import FrameBatch, open_video


@pytest.mark.parametrize("overlapped", [False, True])
def test_a_server_sends_each_window_as_soon_as_its_last_frame_is_read(
    tiny_bundle: Path, movie: Path, overlapped: bool
) -> None:
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    stages, read, sent = classifier.stages, [], []

    def frames(reader: Any) -> Iterator[FrameBatch]:
        for batch in reader:
            read.append(len(batch.frames))
            yield batch

    with Overlap() as overlap, open_video(movie, stages.model.preprocessing, batch_size=1) as reader:
        aggregator = MovieAggregator(stages.model, duration=reader.info.duration)
        batches = overlap.ahead(frames(reader)) if overlapped else frames(reader)
        for window in stages.cut_windows(map(stages.encode, batches)):
            sent += aggregator.add([window], stages.run_heads([window]))
            if not overlapped:
                assert sum(read) == window.start + window.n_frames
    expected = classifier(movie, batch_size=1)
    for name, head in expected.heads.items():
        assert tuple(result[name] for result in sent) == head.windows
    assert aggregator.predictions() == expected.heads
    assert (aggregator.frames, aggregator.padded) == (expected.frames, expected.padded)


def test_a_stream_without_an_end_has_a_prediction_at_any_time(tiny_bundle: Path, tiny_model: Any) -> None:
    stages = vis4mer.load(tiny_bundle, device="cpu").stages
    frame = np.full((1, 8, 8, 3), (200, 30, 60), np.uint8)
    live = (FrameBatch(frame, np.array([float(second)])) for second in itertools.count())
    aggregator = MovieAggregator(stages.model, latest=3)
    for window in itertools.islice(stages.cut_windows(map(stages.encode, live), 1), 50):
        aggregator.add([window], stages.run_heads([window]))
        assert len(aggregator.predictions()["colour"].windows) <= 3
    prediction = aggregator.predictions()["colour"]
    powers = np.exp(tiny_model.head("colour", tiny_model.encode(np.repeat(frame, 5, axis=0)).reshape(1, 10, 4)))
    np.testing.assert_allclose(list(prediction.probabilities.values()), (powers / powers.sum())[0], atol=1e-6)
    assert [(window.start, window.end) for window in prediction.windows] == [(47.0, 52.0), (48.0, 53.0), (49.0, 54.0)]


@pytest.mark.parametrize("n_frames", [3, 5])
def test_heads_see_a_whole_window_however_few_frames_there_are(
    tiny_bundle: Path, tiny_model: Any, n_frames: int
) -> None:
    loaded = vis4mer.load(tiny_bundle, device="cpu").stages
    inputs = []

    def recording(features: Any) -> Any:
        inputs.append(features)
        return loaded.runners["colour"](features)

    stages = Stages(loaded.model, {**loaded.runners, "colour": recording})
    frames = np.random.default_rng(0).integers(0, 256, (n_frames, 8, 8, 3), dtype=np.uint8)
    tokens = stages.encode(FrameBatch(frames, np.arange(n_frames, dtype=float)))
    (window,) = stages.cut_windows([tokens])
    logits = stages.run_heads([window])
    expected = np.zeros((5, 2, 4), np.float32)
    expected[:n_frames] = tiny_model.encode(frames)
    np.testing.assert_allclose(inputs[0], expected.reshape(1, 10, 4), atol=1e-5)
    assert {name: output.shape for name, output in logits.items()} == {"colour": (1, 3), "light": (1, 1)}


def test_windows_of_several_short_movies_are_padded_one_by_one(tiny_bundle: Path) -> None:
    stages = vis4mer.load(tiny_bundle, device="cpu").stages
    frames = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    tokens = stages.encode_together([frames[:3], frames[3:9], frames[9:]])
    for batch, expected in zip(tokens, (frames[:3], frames[3:9], frames[9:]), strict=True):
        np.testing.assert_allclose(batch, stages.runners["encoder"](expected), atol=1e-6)
    windows = [window for batch in tokens for window in stages.cut_windows([batch], 1)]
    assert [window.n_frames for window in windows] == [3, 5, 5, 2]
    together = stages.run_heads(windows)
    for row, window in enumerate(windows):
        for name, logits in stages.run_heads([window]).items():
            np.testing.assert_allclose(together[name][row], logits[0], atol=1e-6)


@pytest.mark.parametrize(("count", "size", "lists"), [(0, 3, []), (3, 3, [[0, 1, 2]]), (4, 3, [[0, 1, 2], [3]])])
def test_items_come_in_batches(count: int, size: int, lists: list[list[int]]) -> None:
    assert list(batched(range(count), size)) == lists
