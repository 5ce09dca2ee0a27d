from typing import Any

import numpy as np
import pytest

from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig
from vis4mer.errors import Vis4merError
from vis4mer.runtime.aggregation import Aggregator, MovieAggregator
from vis4mer.runtime.windows import Window

LABELS = ("a", "b", "c")


def head(d_output: int, **attributes: Any) -> HeadConfig:
    return HeadConfig(DecoderConfig(4, l_max=10, d_output=d_output, d_model=4, n_layers=1), **attributes)


def logits(n_windows: int, d_output: int) -> np.ndarray:
    return np.random.default_rng(n_windows).normal(0, 3, (n_windows, d_output)).astype(np.float32)


def naive_softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True).astype(np.float64))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_a_prediction_so_far_is_the_mean_of_the_windows_so_far() -> None:
    rows = logits(500, 3)
    scores = naive_softmax(rows)
    aggregator = Aggregator("colour", head(3, labels=LABELS))
    for n, row in enumerate(rows, start=1):
        window = aggregator.add(n - 1.0, n + 4.0, row)
        assert (window.start, window.end, window.probabilities) == (n - 1.0, n + 4.0, tuple(scores[n - 1].tolist()))
        prediction = aggregator.prediction()
        # Summing in order of time, as NumPy's mean over the first axis does, gives the same bits.
        assert list(prediction.probabilities.values()) == scores[:n].mean(axis=0).tolist()
        assert prediction.label == LABELS[int(scores[:n].mean(axis=0).argmax())]
        assert prediction.windows == aggregator.windows
        assert (len(prediction.windows), prediction.windows[-1]) == (n, window)


def test_a_regression_head_has_the_mean_value() -> None:
    rows = logits(300, 1)
    aggregator = Aggregator("light", head(1, task="regression"))
    windows = [aggregator.add(float(i), i + 5.0, row) for i, row in enumerate(rows)]
    assert [window.value for window in windows] == rows[:, 0].astype(np.float64).tolist()
    prediction = aggregator.prediction()
    assert prediction.value == pytest.approx(rows[:, 0].astype(np.float64).mean(), rel=1e-14)
    assert (prediction.label, prediction.probabilities) == (None, {})


def test_a_stream_keeps_its_latest_windows_and_the_mean_of_all() -> None:
    rows = logits(100, 3)
    everything, latest = (Aggregator("colour", head(3, labels=LABELS), latest=n) for n in (None, 4))
    for i, row in enumerate(rows):
        assert everything.add(float(i), i + 5.0, row) == latest.add(float(i), i + 5.0, row)
        assert len(latest.windows) <= 4
    assert latest.windows == everything.windows[-4:]
    assert latest.prediction().probabilities == everything.prediction().probabilities


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_is_an_error_and_leaves_the_others(bad: float) -> None:
    aggregator = Aggregator("colour", head(3, labels=LABELS))
    aggregator.add(0.0, 5.0, np.float32([1, 2, 3]))
    before = aggregator.prediction()
    with pytest.raises(Vis4merError, match=r"head='colour': returned a non-finite output at 2\.0 s"):
        aggregator.add(2.0, 7.0, np.float32([1, bad, 3]))
    assert aggregator.prediction() == before


def test_large_logits_do_not_overflow() -> None:
    aggregator = Aggregator("colour", head(3, labels=LABELS))
    assert aggregator.add(0.0, 5.0, np.float32([3e38, 0, -3e38])).probabilities == (1.0, 0.0, 0.0)


def test_no_window_is_no_prediction(tiny_config: ModelConfig) -> None:
    with pytest.raises(Vis4merError, match="windows=0: a prediction needs at least one window"):
        Aggregator("colour", head(3, labels=LABELS)).prediction()
    with pytest.raises(Vis4merError, match="windows=0"):
        MovieAggregator(tiny_config).predictions()


@pytest.mark.parametrize(
    ("duration", "ends"),
    [
        (np.inf, [5.0, 7.0]),
        (6.5, [5.0, 6.5]),
        (6.0, [5.0, 7.0]),  # the last frame cannot start when the movie is over, so the duration is wrong
    ],
)
def test_no_window_ends_after_the_movie(tiny_config: ModelConfig, duration: float, ends: list[float]) -> None:
    aggregator = MovieAggregator(tiny_config, duration=duration)
    windows = [Window(0, 5, ()), Window(2, 5, ())]
    results = aggregator.add(windows, {"colour": logits(2, 3), "light": logits(2, 1)})
    assert [set(result) for result in results] == [{"colour", "light"}] * 2
    assert [[window.end for window in result.values()] for result in results] == [[end, end] for end in ends]
    assert (aggregator.frames, aggregator.padded) == (7, False)


def test_a_window_that_lacks_frames_is_padded(tiny_config: ModelConfig) -> None:
    aggregator = MovieAggregator(tiny_config)
    aggregator.add([Window(0, 3, ())], {"colour": logits(1, 3), "light": logits(1, 1)})
    assert (aggregator.frames, aggregator.padded) == (3, True)
