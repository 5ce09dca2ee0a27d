"""What a model is, as frozen dataclasses that validate themselves and travel with it as JSON.

A checkpoint's ``config.json`` and a bundle's ``manifest.json`` both hold a `ModelConfig`, so whatever was trained is
replayed when it serves: the same frames, the same resizing, the same windows, the same labels.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from vis4mer.errors import ConfigError

Resize = Literal["stretch", "crop"]
Interpolation = Literal["area", "bilinear", "bicubic"]
Task = Literal["classification", "regression"]
Nodes = Literal["exact", "stored"]

_HEAD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{name}={value!r}: {rule}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Config:
    """JSON in and out for the dataclasses below; an unknown or missing key is an error that names it."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary that `from_dict` turns back into an equal object."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the object from `to_dict`'s output.

        Raises:
            ConfigError: a key is unknown or missing, or a value breaks its rule.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__}={values!r}: must be a JSON object")
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(f"{cls.__name__}: unknown key {unknown[0]!r}; known are {', '.join(fields)}")
        try:
            return cls(**{key: cls._parse(key, value) for key, value in values.items()})
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {str(error).split('__init__() ')[-1]}") from None

    @classmethod
    def _parse(cls, key: str, value: Any) -> Any:
        """Turns the JSON form of field `key` into its Python form; subclasses with nested fields override it."""
        return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, _Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Preprocessing(_Config):
    """How frames are taken from a video and what is done to them before the encoder.

    The defaults are those of the published LVU protocol but for its `last_frame`: one frame a second, stretched to
    224 x 224 with area interpolation, scaled to [0, 1] and not normalised further.

    Attributes:
        fps: frames taken per second of video; frame i is the one shown at ``start + i / fps``. Not used with
            `segments`.
        height: of the resized frame, in pixels.
        width: of the resized frame, in pixels.
        resize: ``stretch`` ignores the aspect ratio; ``crop`` scales until the frame covers height x width and cuts
            the overhang equally from both sides.
        interpolation: ``area`` averages the covered source pixels, ``bilinear`` and ``bicubic`` are filters that widen
            with the downscaling factor (antialiased).
        mean: per RGB channel, subtracted after scaling to [0, 1].
        std: per RGB channel, divided by afterwards; positive.
        last_frame: takes a movie's very last frame too, after those of the regular grid.
        segments: for an encoder of segments, how many are taken: each of consecutive frames at the video's own rate,
            their starts spread evenly over the movie, overlapping where it is short. None for an encoder of frames.
    """

    fps: float = 1.0
    height: int = 224
    width: int = 224
    resize: Resize = "stretch"
    interpolation: Interpolation = "area"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    last_frame: bool = False
    segments: int | None = None

    def __post_init__(self) -> None:
        _require(_is_number(self.fps) and 0 < self.fps <= 1000, "fps", self.fps, "must be in (0, 1000] frames a second")
        for name, value in (("height", self.height), ("width", self.width)):
            _require(_is_count(value) and value <= 8192, name, value, "must be an integer from 1 to 8192 pixels")
        _require(self.resize in get_args(Resize), "resize", self.resize, f"must be one of {get_args(Resize)}")
        _require(
            self.interpolation in get_args(Interpolation),
            "interpolation",
            self.interpolation,
            f"must be one of {get_args(Interpolation)}",
        )
        for name, triple in (("mean", self.mean), ("std", self.std)):
            _require(len(triple) == 3 and all(map(_is_number, triple)), name, triple, "must be three finite numbers")
        _require(min(self.std) > 0, "std", self.std, "must be positive")
        _require(isinstance(self.last_frame, bool), "last_frame", self.last_frame, "must be true or false")
        if self.segments is not None:
            _require(_is_count(self.segments), "segments", self.segments, "must be a positive integer or null")
            _require(not self.last_frame, "last_frame", True, "must be false with segments, which have no grid")


@dataclass(frozen=True)
class WindowConfig(_Config):
    """The span that is classified at once, and the step from one to the next.

    Attributes:
        seconds: length of a window, in seconds of video.
        stride: from one window's start to the next one's, in seconds of video.
        samples: if given, a movie is one window, whatever its length: this many of its encoded frames or segments,
            spread evenly over it (in training, drawn at random and put in order). `seconds` and `stride` are not used.
    """

    seconds: float = 60.0
    stride: float = 1.0
    samples: int | None = None

    def __post_init__(self) -> None:
        _require(_is_number(self.seconds) and self.seconds > 0, "seconds", self.seconds, "must be positive")
        _require(_is_number(self.stride) and self.stride > 0, "stride", self.stride, "must be positive seconds")
        if self.samples is not None:
            _require(_is_count(self.samples), "samples", self.samples, "must be a positive integer or null")

    def frames(self, fps: float) -> int:
        """Encoded frames or segments in a window; at `fps` a second, the nearest whole number, and at least one."""
        return self.samples or max(1, round(self.seconds * fps))

    def stride_frames(self, fps: float) -> int:
        """The stride in whole frames: the nearest to its seconds, and at least one."""
        return max(1, round(self.stride * fps))


@dataclass(frozen=True)
class EncoderConfig(_Config):
    """The frozen encoder: of frames, a Vision Transformer of timm; or of segments, a Video Swin of torchvision.

    Attributes:
        name: timm's or torchvision's model name.
        tokens: P, tokens per frame or segment at the preprocessing's height and width, class token included.
        features: D, features per token.
        frames: in a segment; 1 for an encoder of frames.
    """

    name: str = "vit_large_patch16_224.augreg_in21k"
    tokens: int = 197
    features: int = 1024
    frames: int = 1

    def __post_init__(self) -> None:
        rule = "must be a model name of timm or torchvision"
        _require(bool(self.name) and isinstance(self.name, str), "name", self.name, rule)
        _require(_is_count(self.tokens), "tokens", self.tokens, "must be a positive integer")
        _require(_is_count(self.features), "features", self.features, "must be a positive integer")
        _require(_is_count(self.frames), "frames", self.frames, "must be a positive integer")

    def check(self, preprocessing: Preprocessing) -> None:
        """Refuses a preprocessing that gives frames where this encoder takes segments, or the other way round.

        Raises:
            ConfigError: it does.
        """
        rule = "must be given for an encoder of segments, and for no other"
        takes = f"{self.name} takes {self.frames} frame{'s' if self.frames > 1 else ''} at once"
        fits = (self.frames > 1) == (preprocessing.segments is not None)
        _require(fits, "segments", preprocessing.segments, f"{rule}; {takes}")


@dataclass(frozen=True)
class DecoderConfig(_Config):
    """The multi-scale S4 decoder.

    Attributes:
        d_input: features per input token; a linear layer maps them to d_model where the two differ.
        l_max: longest input, in tokens; SSM convolution kernels are generated at this length.
        d_output: number of classes, or of regressed values.
        d_model: features of the first block; each block halves them.
        n_layers: number of blocks; d_model must be divisible by 2**n_layers, l_max must not be smaller than it.
        d_state: N, size of each channel's state; even, since states come in conjugate pairs.
        dropout: probability in [0, 1).
        nodes: ``exact`` computes the roots of unity at which the SSM generating function is evaluated, in double
            precision; ``stored`` takes them, rounding and all, from a checkpoint of the published implementation.

    Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 3.3.
    """

    d_input: int
    l_max: int
    d_output: int
    d_model: int
    n_layers: int
    d_state: int = 64
    dropout: float = 0.2
    nodes: Nodes = "exact"

    def __post_init__(self) -> None:
        for name in ("d_input", "l_max", "d_output", "d_model", "n_layers", "d_state"):
            _require(_is_count(getattr(self, name)), name, getattr(self, name), "must be a positive integer")
        shrink = 2**self.n_layers
        _require(self.d_model % shrink == 0, "d_model", self.d_model, f"must be divisible by 2**n_layers={shrink}")
        _require(self.l_max >= shrink, "l_max", self.l_max, f"must be at least 2**n_layers={shrink} tokens")
        _require(self.d_state % 2 == 0, "d_state", self.d_state, "must be even: states come in conjugate pairs")
        _require(_is_number(self.dropout) and 0 <= self.dropout < 1, "dropout", self.dropout, "must be in [0, 1)")
        _require(self.nodes in get_args(Nodes), "nodes", self.nodes, f"must be one of {get_args(Nodes)}")


@dataclass(frozen=True)
class HeadConfig(_Config):
    """One classification or regression decoder and what its outputs mean.

    Attributes:
        decoder: its S4 decoder.
        task: ``classification`` (softmax over labels) or ``regression`` (d_output must be 1).
        labels: names of the d_output classes, in order; defaults to "0", "1", ...; must be empty for regression.
    """

    decoder: DecoderConfig
    task: Task = "classification"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.task in get_args(Task), "task", self.task, f"must be one of {get_args(Task)}")
        d_output = self.decoder.d_output
        if self.task == "regression":
            _require(d_output == 1, "d_output", d_output, "must be 1 for a regression head")
            _require(not self.labels, "labels", self.labels, "must be empty for a regression head")
            return
        if not self.labels:
            object.__setattr__(self, "labels", tuple(str(i) for i in range(d_output)))
        _require(all(isinstance(x, str) for x in self.labels), "labels", self.labels, "must be strings")
        _require(len(set(self.labels)) == len(self.labels), "labels", self.labels, "must be distinct")
        _require(len(self.labels) == d_output, "labels", self.labels, f"must be d_output={d_output} names")

    @classmethod
    def _parse(cls, key: str, value: Any) -> Any:
        return DecoderConfig.from_dict(value) if key == "decoder" else super()._parse(key, value)


@dataclass(frozen=True)
class ModelConfig(_Config):
    """A whole model: from a video's frames to the predictions of one or more heads.

    Attributes:
        heads: by name, at least one.
        encoder: None for a checkpoint that holds decoders only.
        preprocessing: of the frames that the encoder takes.
        windows: how a movie is cut for the heads.
    """

    heads: Mapping[str, HeadConfig]
    encoder: EncoderConfig | None = field(default_factory=EncoderConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    windows: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        _require(bool(self.heads), "heads", dict(self.heads), "must name at least one head")
        object.__setattr__(self, "heads", dict(self.heads))
        if self.encoder is not None:
            self.encoder.check(self.preprocessing)
        samples = self.windows.samples
        spread = self.preprocessing.segments is None or samples is not None
        _require(spread, "samples", samples, "must be given where the encoder takes segments, which have no rate")
        for name, head in self.heads.items():
            rule = "a head's name must start with a letter and hold letters, digits, '_' and '-'"
            _require(bool(_HEAD_NAME.fullmatch(name)) and name != "encoder", "head", name, rule)
            if self.encoder is None:
                continue
            decoder = head.decoder
            rule = f"must equal the encoder's features={self.encoder.features}"
            _require(decoder.d_input == self.encoder.features, f"{name}.d_input", decoder.d_input, rule)
            needed = self.window_frames * self.encoder.tokens
            rule = f"must hold a window of {self.window_frames} frames of {self.encoder.tokens} tokens: {needed}"
            _require(decoder.l_max >= needed, f"{name}.l_max", decoder.l_max, rule)
            rule = f"must leave a token of a window's {needed} after halving n_layers={decoder.n_layers} times"
            _require(needed >= 2**decoder.n_layers, f"{name}.n_layers", decoder.n_layers, rule)

    @property
    def window_frames(self) -> int:
        """Frames in one window."""
        return self.windows.frames(self.preprocessing.fps)

    @classmethod
    def _parse(cls, key: str, value: Any) -> Any:
        match key:
            case "heads":
                if not isinstance(value, Mapping):
                    raise ConfigError(f"heads={value!r}: must be a JSON object of heads by name")
                return {name: HeadConfig.from_dict(head) for name, head in value.items()}
            case "encoder":
                return None if value is None else EncoderConfig.from_dict(value)
            case "preprocessing":
                return Preprocessing.from_dict(value)
            case "windows":
                return WindowConfig.from_dict(value)
        return super()._parse(key, value)
