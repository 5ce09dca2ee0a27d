"""The last stage: from the logits of windows to predictions, one window at a time."""

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import HeadConfig, ModelConfig
from vis4mer.errors import Vis4merError
from vis4mer.runtime.prediction import HeadPrediction, WindowPrediction
from vis4mer.runtime.windows import Window


class Aggregator:
    """Collects one head's windows; their common prediction is available at any time.

    The probabilities of a movie are the mean of its windows' softmax; its value, for a regression head, is the mean of
    its windows' values. Both are kept as a running sum in float64, so only the windows themselves take memory.

    Args:
        name: Name of the head, for errors.
        head: Configuration of the head, which defines what its logits mean.
        latest: Number of latest windows to keep, for endless streams; all by default. The prediction still covers
            earlier ones.

    Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 4.2, and the published evaluation code, which sums where
        this takes the mean; the most probable label is the same.
    """

    def __init__(self, name: str, head: HeadConfig, *, latest: int | None = None) -> None:
        self._name, self._head = name, head
        self._windows: deque[WindowPrediction] = deque(maxlen=latest)
        self._count = 0
        self._sum = np.zeros(head.decoder.d_output, np.float64)

    @property
    def windows(self) -> tuple[WindowPrediction, ...]:
        """The windows that are kept, in order of time."""
        return tuple(self._windows)

    def add(self, start: float, end: float, logits: NDArray[np.float32]) -> WindowPrediction:
        """Adds a window.

        Args:
            start: Start of the window, in seconds.
            end: End of the window, in seconds.
            logits: Output of the head for the window, ``[d_output]``.

        Returns:
            The head's prediction for the window.

        Raises:
            Vis4merError: A logit is not finite.
        """
        outputs = logits.astype(np.float64)
        # A single NaN in the running sum would silently make the prediction for the whole movie NaN.
        if not np.isfinite(outputs).all():
            rule = f"returned a non-finite output at {start:.1f} s, so the movie has no prediction"
            raise Vis4merError.of("head", self._name, rule, "check the checkpoint, or export it with --precision fp32")
        if self._head.task == "regression":
            window = WindowPrediction(start, end, value=float(outputs[0]))
        else:
            # From here on the outputs are probabilities. Their mean gives every window the same weight, while a mean of
            # logits would favour windows whose logits happen to be large.
            outputs = _softmax(outputs)
            window = WindowPrediction(start, end, tuple(outputs.tolist()))
        # The sum and the count include windows that the deque has dropped, so they never depend on `latest`.
        self._sum += outputs
        self._count += 1
        self._windows.append(window)
        return window

    def prediction(self) -> HeadPrediction:
        """Returns the prediction for all windows that have been added.

        Raises:
            Vis4merError: No window has been added.
        """
        if self._count == 0:
            raise Vis4merError.of("windows", 0, "a prediction needs at least one window")
        mean = self._sum / self._count
        if self._head.task == "regression":
            return HeadPrediction(None, {}, float(mean[0]), self.windows)
        label = self._head.labels[int(mean.argmax())]
        probabilities = dict(zip(self._head.labels, mean.tolist(), strict=True))
        return HeadPrediction(label, probabilities, None, self.windows)


class MovieAggregator:
    """The predictions of all heads of a model for one movie or stream.

    Args:
        model: Configuration of the model.
        duration: Duration of the movie, in seconds, which no window's end exceeds; infinite for a stream.
        latest: Number of windows that each head's `Aggregator` keeps; all by default.

    Attributes:
        frames: Number of frames up to the last window's end.
        padded: Whether a window had fewer frames than the model's, so zeros stood for the others.
    """

    def __init__(self, model: ModelConfig, *, duration: float = math.inf, latest: int | None = None) -> None:
        self._fps, self._window_frames, self._duration = model.preprocessing.fps, model.window_frames, duration
        self._heads = {name: Aggregator(name, head, latest=latest) for name, head in model.heads.items()}
        self.frames, self.padded = 0, False

    def add(
        self, windows: Sequence[Window], logits: Mapping[str, NDArray[np.float32]]
    ) -> list[dict[str, WindowPrediction]]:
        """Adds consecutive windows.

        Args:
            windows: The windows.
            logits: Outputs of every head for them, ``[len(windows), d_output]``.

        Returns:
            The predictions for each window, by head.

        Raises:
            Vis4merError: A logit is not finite.
        """
        results = []
        for row, window in enumerate(windows):
            # Windows come in order of time, so the last one reaches furthest.
            self.frames = window.start + window.n_frames
            self.padded |= window.n_frames < self._window_frames
            start, end = window.start / self._fps, self._end(self.frames)
            results.append({name: head.add(start, end, logits[name][row]) for name, head in self._heads.items()})
        return results

    def predictions(self) -> dict[str, HeadPrediction]:
        """Returns the predictions for all windows that have been added, by head.

        Raises:
            Vis4merError: No window has been added.
        """
        return {name: head.prediction() for name, head in self._heads.items()}

    def _end(self, frame: int) -> float:
        """Returns the time, in seconds, at which a window ends whose last frame precedes the frame of index `frame`.

        A frame stands for 1 / fps seconds. The movie may end within the last one, and then so does the window. A
        duration that ends before the last frame even starts is wrong, and is ignored.
        """
        end, last_frame = frame / self._fps, (frame - 1) / self._fps
        return min(end, self._duration) if self._duration > last_frame else end


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns probabilities ``[d_output]``; subtracting the largest logit keeps the exponentials from overflowing."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
