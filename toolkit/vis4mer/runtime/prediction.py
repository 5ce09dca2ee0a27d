"""A model's prediction for a movie, window by window and as a whole, with its provenance."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vis4mer.video.frames import Damage


@dataclass(frozen=True)
class WindowPrediction:
    """One head's prediction for one window.

    Attributes:
        start: Seconds from the movie's first frame.
        end: Seconds from the movie's first frame; at most the movie's duration.
        probabilities: Probabilities of the head's labels, in their order; empty for a regression head.
        value: Output of a regression head; None for a classification head.
    """

    start: float
    end: float
    probabilities: tuple[float, ...] = ()
    value: float | None = None


@dataclass(frozen=True)
class HeadPrediction:
    """One head's prediction for the whole movie.

    Attributes:
        label: Most probable label; None for a regression head.
        probabilities: Probabilities by label, in the head's order, which sum to 1; empty for a regression head.
        value: Mean output of a regression head; None for a classification head.
        windows: Predictions for the windows, in order of time.
    """

    label: str | None
    probabilities: Mapping[str, float]
    value: float | None
    windows: tuple[WindowPrediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the head's part of the JSON output: ``label`` and ``probabilities`` or ``value``, and ``windows``."""
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
    """A model's prediction for a movie.

    Attributes:
        video: Path of the movie.
        duration: Duration of the movie, in seconds.
        frames: Number of frames that the model saw.
        stride: Seconds between the starts of consecutive windows, a whole number of frames; the last step may be
            shorter.
        padded: Whether the movie is shorter than the model's window, the rest of which is then padded with zeros.
        bundle: Path of the bundle or checkpoint.
        device: Device that ran the model, such as ``cpu`` or ``cuda:0``.
        device_reason: Why that device was used.
        precision: Precision of the encoder: ``fp32``, ``fp16`` or ``bf16``.
        precision_reason: Why that precision was used.
        video_decoder: Video decoder: ``pyav`` or ``dali``.
        video_decoder_reason: Why that video decoder was used.
        damage: Damage that the reader found in the video.
        heads: Predictions by head. Label, probabilities and windows of the first head are also attributes of the
            prediction itself.
        notes: Reasons in the movie itself to doubt the prediction, a sentence each: it is black, its picture does not
            change (see `vis4mer.runtime.footage`), or it fills less than half of the model's window.
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
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """The first head's most probable label; None for a regression head."""
        return self._first.label

    @property
    def probabilities(self) -> Mapping[str, float]:
        """The first head's probabilities by label; empty for a regression head."""
        return self._first.probabilities

    @property
    def windows(self) -> tuple[WindowPrediction, ...]:
        """The first head's windows, in order of time."""
        return self._first.windows

    @property
    def _first(self) -> HeadPrediction:
        return next(iter(self.heads.values()))

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary, as ``vis4mer run --output-format json`` prints it for each movie."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("heads", "notes")}
        heads = {name: head.to_dict() for name, head in self.heads.items()}
        return values | {"damage": dataclasses.asdict(self.damage), "notes": list(self.notes), "heads": heads}
