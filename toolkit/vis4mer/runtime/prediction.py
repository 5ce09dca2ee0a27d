"""What a model says of a movie, window by window and as a whole, and where that came from."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vis4mer.config import HeadConfig
from vis4mer.errors import Vis4merError

if TYPE_CHECKING:
    from vis4mer.video.frames import Damage


@dataclass(frozen=True)
class WindowPrediction:
    """What one head says of one window.

    Attributes:
        start: seconds from the movie's first frame.
        end: seconds from the movie's first frame; at most the movie's duration.
        probabilities: of the head's labels, in their order; empty for a regression head.
        value: of a regression head; None for a classification head.
    """

    start: float
    end: float
    probabilities: tuple[float, ...] = ()
    value: float | None = None


@dataclass(frozen=True)
class HeadPrediction:
    """What one head says of the whole movie.

    Attributes:
        label: the most probable one; None for a regression head.
        probabilities: by label, in the head's order; sum to 1; empty for a regression head.
        value: of a regression head; None for a classification head.
        windows: in order of time.
    """

    label: str | None
    probabilities: Mapping[str, float]
    value: float | None
    windows: tuple[WindowPrediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """The head's part of the JSON contract: ``label`` and ``probabilities``, or ``value``; and ``windows``."""
        if self.value is not None:
            windows = [{"start": w.start, "end": w.end, "value": w.value} for w in self.windows]
            return {"value": self.value, "windows": windows}
        return {
            "label": self.label,
            "probabilities": dict(self.probabilities),
            "windows": [{"start": w.start, "end": w.end, "probabilities": list(w.probabilities)} for w in self.windows],
        }


@dataclass(frozen=True)
class Prediction:
    """What a model says of a movie.

    Attributes:
        video: the path it was read from.
        duration: of the video, in seconds.
        frames: number of frames the model saw.
        stride: seconds from one window's start to the next one's, in whole frames; the last step may be shorter.
        padded: whether the movie is shorter than the model's window, whose rest is zeros then.
        bundle: path of the bundle or checkpoint.
        device: that ran the model, such as ``cpu`` or ``cuda:0``.
        device_reason: why that device.
        precision: that the encoder computed in: ``fp32``, ``fp16`` or ``bf16``.
        precision_reason: why that precision.
        video_decoder: ``pyav`` or ``dali``.
        video_decoder_reason: why that video decoder.
        damage: what was wrong with the video, as counted by its reader.
        heads: by name; the first one's label, probabilities and windows are also attributes of the prediction itself.
    """

    video: str
    duration: float
    frames: int
    stride: float
    padded: bool
    bundle: str
    device: str
    device_reason: str
    precision: str
    precision_reason: str
    video_decoder: str
    video_decoder_reason: str
    damage: "Damage"
    heads: Mapping[str, HeadPrediction]

    @property
    def label(self) -> str | None:
        """The first head's most probable label; None if that is a regression head."""
        return self._first.label

    @property
    def probabilities(self) -> Mapping[str, float]:
        """The first head's probabilities by label; empty if that is a regression head."""
        return self._first.probabilities

    @property
    def windows(self) -> tuple[WindowPrediction, ...]:
        """The first head's windows, in order of time."""
        return self._first.windows

    @property
    def _first(self) -> HeadPrediction:
        return next(iter(self.heads.values()))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable dictionary, the form of ``vis4mer run --output-format json``."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        heads = {name: head.to_dict() for name, head in self.heads.items()}
        return values | {"damage": dataclasses.asdict(self.damage), "heads": heads}


def aggregate(
    name: str, head: HeadConfig, spans: Sequence[tuple[float, float]], logits: NDArray[np.float32]
) -> HeadPrediction:
    """Turns a head's logits into its prediction for the movie.

    A movie's probabilities are the mean of its windows' softmax, whose argmax is that of the published sum; a
    regression head's value is the mean of its windows' values.

    Args:
        name: of the head, for the error.
        head: says what the logits mean.
        spans: start and end of each window, in seconds.
        logits: ``[len(spans), d_output]``.

    Raises:
        Vis4merError: a logit is not finite.

    Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 4.2 and the published evaluation code.
    """
    outputs = logits.astype(np.float64)
    if bad := np.flatnonzero(~np.isfinite(outputs).all(axis=1)).tolist():
        rule = f"head={name!r}: gave a non-finite output at {spans[bad[0]][0]:.1f} s, so the movie has no prediction"
        raise Vis4merError(f"{rule}; check the checkpoint, or export it with --precision fp32")
    if head.task == "regression":
        windows = tuple(WindowPrediction(*span, value=float(row[0])) for span, row in zip(spans, outputs, strict=True))
        return HeadPrediction(None, {}, float(outputs.mean()), windows)
    scores = _softmax(outputs)
    mean = scores.mean(axis=0)
    windows = tuple(WindowPrediction(*span, tuple(row.tolist())) for span, row in zip(spans, scores, strict=True))
    probabilities = dict(zip(head.labels, mean.tolist(), strict=True))
    return HeadPrediction(head.labels[int(mean.argmax())], probabilities, None, windows)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
