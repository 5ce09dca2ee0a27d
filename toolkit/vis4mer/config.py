"""The configuration of a model: frozen dataclasses that validate themselves and are stored with the model as JSON.

A checkpoint's ``config.json`` and a bundle's ``manifest.json`` both hold a `ModelConfig`, so serving repeats what
training did: the same frames, the same resizing, the same windows, the same labels.
"""

import dataclasses
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from vis4mer.errors import ConfigError

# Name of the file that describes the model in a checkpoint's folder.
CONFIG_FILE = "config.json"

Resize = Literal["stretch", "crop"]
Interpolation = Literal["area", "bilinear", "bicubic"]
Task = Literal["classification", "regression"]
NodeSource = Literal["exact", "stored"]

# No part of a model. The command offers these names, and it must start without loading the video decoders.
DecoderName = Literal["dali", "pyav"]
VideoDecoder = Literal["auto", DecoderName]

_MAX_SECONDS = 1e300  # times the highest frame rate, it is still a finite float
_SECONDS_RULE = f"must be positive, and at most {_MAX_SECONDS:g} seconds"
_MAX_OUTPUTS = 1_000_000  # each class has a label, in memory
_MAX_LAYERS = 62  # d_model is divisible by 2**n_layers, which fits into 64 bits

_HEAD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ConfigError.of(name, value, rule)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


class _Config:
    """Conversion to and from JSON for the dataclasses below; an unknown or missing key is an error that names it."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary from which `from_dict` builds an equal object."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the object from `to_dict`'s output.

        Raises:
            ConfigError: A key is unknown or missing, or a value breaks its rule.
        """
        if not isinstance(values, Mapping):
            raise ConfigError.of(cls.__name__, values, "must be a JSON object")
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(f"{cls.__name__}: unknown key {unknown[0]!r}; known are {', '.join(fields)}")
        try:
            return cls(**{key: cls._parse(key, value) for key, value in values.items()})
        except TypeError as error:
            # Python names the missing arguments: "DecoderConfig.__init__() missing 1 required positional argument: ..."
            problem = str(error).split("__init__() ")[-1]
            raise ConfigError(f"{cls.__name__}: {problem}") from None

    @classmethod
    def _parse(cls, key: str, value: Any) -> Any:
        """Converts the JSON form of field `key` to its Python form; subclasses with nested fields override it."""
        return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, _Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Preprocessing(_Config):
    """The frames taken from a video, and their transformation before the encoder.

    The defaults are those of the published LVU protocol except for its `last_frame`: one frame per second, stretched to
    224 x 224 with area interpolation, scaled to [0, 1] and not normalised further.

    Attributes:
        fps: Frames taken per second of video; frame i is the one shown at ``start + i / fps``. Ignored with `segments`.
        height: Height of the resized frame, in pixels.
        width: Width of the resized frame, in pixels.
        resize: Treatment of the aspect ratio: ``stretch`` ignores it; ``crop`` scales until the frame covers
            height x width and crops the excess equally on both sides.
        interpolation: Resizing filter: ``area`` averages the covered source pixels; ``bilinear`` and ``bicubic`` widen
            with the downscaling factor (antialiasing).
        mean: Mean of each RGB channel, subtracted after scaling to [0, 1].
        std: Standard deviation of each RGB channel, by which the result is divided; positive.
        last_frame: Whether the movie's last frame is added to those of the regular grid.
        segments: Number of segments, for encoders that take segments. Each is a run of frames at the video's own
            rate; they start at even intervals over the movie and overlap if it is short. None for encoders that take
            frames.
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
        _require(
            _is_number(self.fps) and 0 < self.fps <= 1000, "fps", self.fps, "must be in (0, 1000] frames per second"
        )
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
    """The span of video classified at once, and the step between spans.

    Attributes:
        seconds: Length of a window, in seconds of video.
        stride: Time between the starts of consecutive windows, in seconds of video.
        samples: Number of encoded frames or segments that represent a whole movie, which is then a single window,
            however long it is. They are spread evenly over the movie; training draws them at random and sorts them.
            `seconds` and `stride` are ignored. None for windows of fixed length.
    """

    seconds: float = 60.0
    stride: float = 1.0
    samples: int | None = None

    def __post_init__(self) -> None:
        _require(_is_number(self.seconds) and 0 < self.seconds <= _MAX_SECONDS, "seconds", self.seconds, _SECONDS_RULE)
        _require(_is_number(self.stride) and 0 < self.stride <= _MAX_SECONDS, "stride", self.stride, _SECONDS_RULE)
        if self.samples is not None:
            _require(_is_count(self.samples), "samples", self.samples, "must be a positive integer or null")

    def frames(self, fps: float) -> int:
        """Returns the number of encoded frames or segments in a window at `fps` per second, rounded, at least one."""
        return self.samples or max(1, round(self.seconds * fps))

    def stride_frames(self, fps: float) -> int:
        """Returns the stride in frames at `fps` per second, rounded, at least one."""
        return max(1, round(self.stride * fps))


@dataclass(frozen=True)
class EncoderConfig(_Config):
    """The frozen encoder: one of timm's Vision Transformers for frames, or torchvision's Video Swin for segments.

    Attributes:
        name: Model name in timm or torchvision.
        tokens: P, tokens per frame or segment at the preprocessing's height and width, class token included.
        features: D, features per token.
        frames: Frames per segment; 1 for encoders that take single frames.
    """

    name: str = "vit_large_patch16_224.augreg_in21k"
    tokens: int = 197
    features: int = 1024
    frames: int = 1

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and bool(self.name)
        _require(named, "name", self.name, "must be a model name of timm or torchvision")
        _require(_is_count(self.tokens), "tokens", self.tokens, "must be a positive integer")
        _require(_is_count(self.features), "features", self.features, "must be a positive integer")
        _require(_is_count(self.frames), "frames", self.frames, "must be a positive integer")

    def check(self, preprocessing: Preprocessing) -> None:
        """Checks that the preprocessing yields segments if this encoder takes segments, and frames otherwise.

        Raises:
            ConfigError: They do not match.
        """
        encodes_segments, takes_segments = self.frames > 1, preprocessing.segments is not None
        if encodes_segments != takes_segments:
            unit = "frames" if encodes_segments else "frame"
            raise ConfigError.of(
                "segments",
                preprocessing.segments,
                f"must be set for encoders that take segments, and only for them; {self.name} takes {self.frames} "
                f"{unit} at once",
            )


@dataclass(frozen=True)
class DecoderConfig(_Config):
    """The multi-scale S4 decoder.

    Attributes:
        d_input: Features per input token; a linear layer maps them to d_model where the two differ.
        l_max: Longest input, in tokens; SSM convolution kernels are generated at this length.
        d_output: Number of classes, or of regressed values.
        d_model: Features of the first block; each block halves them.
        n_layers: Number of blocks; d_model must be divisible by 2**n_layers, and l_max at least 2**n_layers.
        d_state: N, size of each channel's state; even, since states come in conjugate pairs.
        dropout: Dropout probability, in [0, 1).
        nodes: Source of the roots of unity at which the SSM generating function is evaluated: ``exact`` computes them
            in double precision; ``stored`` reads them, with their rounding, from a checkpoint of the published code.

    Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 3.3.
    """

    d_input: int
    l_max: int
    d_output: int
    d_model: int
    n_layers: int
    d_state: int = 64
    dropout: float = 0.2
    nodes: NodeSource = "exact"

    def __post_init__(self) -> None:
        for name in ("d_input", "l_max", "d_output", "d_model", "n_layers", "d_state"):
            _require(_is_count(getattr(self, name)), name, getattr(self, name), "must be a positive integer")
        _require(self.d_output <= _MAX_OUTPUTS, "d_output", self.d_output, f"must be at most {_MAX_OUTPUTS:,}")
        # A larger power would be computed for hours before a rule rejects it.
        _require(self.n_layers <= _MAX_LAYERS, "n_layers", self.n_layers, f"must be at most {_MAX_LAYERS}")
        shrink = 2**self.n_layers
        _require(self.d_model % shrink == 0, "d_model", self.d_model, f"must be divisible by 2**n_layers={shrink}")
        _require(self.l_max >= shrink, "l_max", self.l_max, f"must be at least 2**n_layers={shrink} tokens")
        _require(self.d_state % 2 == 0, "d_state", self.d_state, "must be even: states come in conjugate pairs")
        _require(_is_number(self.dropout) and 0 <= self.dropout < 1, "dropout", self.dropout, "must be in [0, 1)")
        _require(self.nodes in get_args(NodeSource), "nodes", self.nodes, f"must be one of {get_args(NodeSource)}")


@dataclass(frozen=True)
class HeadConfig(_Config):
    """One classification or regression decoder, and the meaning of its outputs.

    Attributes:
        decoder: S4 decoder that computes the outputs.
        task: Kind of prediction: ``classification`` (softmax over labels) or ``regression`` (d_output must be 1).
        labels: Names of the d_output classes, in order; "0", "1", ... by default; empty for regression.
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
    """A whole model, from a video's frames to the predictions of its heads.

    Attributes:
        heads: Heads by name, at least one.
        encoder: Encoder of frames or segments; None for a checkpoint of decoders alone.
        preprocessing: Sampling and resizing of the frames for the encoder.
        windows: Division of a movie into spans for the heads.
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
        needs_samples = self.preprocessing.segments is not None
        _require(
            samples is not None or not needs_samples,
            "samples",
            samples,
            "must be set if the encoder takes segments, which have no frame rate",
        )
        for name, head in self.heads.items():
            # A head's name is also the name of its file in a bundle, beside the encoder's.
            _require(
                bool(_HEAD_NAME.fullmatch(name)) and name != "encoder",
                "head",
                name,
                "must start with a letter, hold letters, digits, '_' and '-' alone, and not be 'encoder'",
            )
            if self.encoder is not None:
                self._check_fit(name, head.decoder, self.encoder)

    def _check_fit(self, head: str, decoder: DecoderConfig, encoder: EncoderConfig) -> None:
        """Checks that a head takes one window of the encoder's tokens."""
        frames = self.window_frames
        length = frames * encoder.tokens
        _require(
            decoder.d_input == encoder.features,
            f"{head}.d_input",
            decoder.d_input,
            f"must equal the encoder's features={encoder.features}",
        )
        _require(
            decoder.l_max >= length,
            f"{head}.l_max",
            decoder.l_max,
            f"must hold a window of {frames} frames of {encoder.tokens} tokens: {length}",
        )
        _require(
            2**decoder.n_layers <= length,
            f"{head}.n_layers",
            decoder.n_layers,
            f"must leave a token of a window's {length} after as many halvings",
        )

    @property
    def window_frames(self) -> int:
        """Encoded frames or segments in one window."""
        return self.windows.frames(self.preprocessing.fps)

    @classmethod
    def _parse(cls, key: str, value: Any) -> Any:
        match key:
            case "heads":
                if not isinstance(value, Mapping):
                    raise ConfigError.of("heads", value, "must be a JSON object of heads by name")
                return {name: HeadConfig.from_dict(head) for name, head in value.items()}
            case "encoder":
                return None if value is None else EncoderConfig.from_dict(value)
            case "preprocessing":
                return Preprocessing.from_dict(value)
            case "windows":
                return WindowConfig.from_dict(value)
        return super()._parse(key, value)
