"""Everything that determines what `vis4mer.train` and `vis4mer.extract` compute, as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from vis4mer.config import DecoderConfig, EncoderConfig, Preprocessing, WindowConfig
from vis4mer.errors import ConfigError
from vis4mer.training.config import TokenDtype, TrainConfig
from vis4mer.training.data.protocols import find_protocol
from vis4mer.training.mapping import from_plain, merged, to_plain

_WEIGHT_NAMES = ("hub", "random")


@dataclass(frozen=True)
class DataSettings:
    """The data set: a CSV of movies, or a published benchmark with its folders.

    Attributes:
        movies: CSV of a user's own movies; see `vis4mer.training.data.listing.Listing.read`.
        protocol: Name of a published benchmark, which needs `videos` and `splits`.
        videos: Folder of the benchmark's videos.
        splits: Folder of the benchmark's own split files.
        val_ratio: Fraction of the movies to validate on if `movies` has no column 'split', in (0, 1).
        skip_unreadable: Whether training leaves out videos that are missing or cannot be decoded.
    """

    movies: Path | None = None
    protocol: str | None = None
    videos: Path | None = None
    splits: Path | None = None
    val_ratio: float = 0.2
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        if self.movies is not None and self.protocol is not None:
            raise ConfigError.of("movies", self.movies, "cannot be combined with a protocol", "choose one of the two")
        if self.movies is None and self.protocol is None:
            raise ConfigError.of("movies", None, "there is no data set", "pass a CSV of movies or a protocol")
        for name, folder in (("videos", self.videos), ("splits", self.splits)):
            if (folder is None) != (self.protocol is None):
                raise ConfigError.of(name, folder, "must be set with a protocol, and only then")
        if self.protocol is not None:
            find_protocol(self.protocol)
        if not 0 < self.val_ratio < 1:
            raise ConfigError.of("val_ratio", self.val_ratio, "must be in (0, 1)")


@dataclass(frozen=True)
class EncoderSettings:
    """The frozen encoder.

    Attributes:
        name: Model name of timm or torchvision.
        weights: Weight file; ``hub`` downloads the published weights, ``random`` draws them from the seed.
    """

    name: str = EncoderConfig.name
    weights: str = "hub"


@dataclass(frozen=True)
class HeadSettings:
    """The name and the sizes of the head to train; see `DecoderConfig`.

    Attributes:
        name: Name of the head.
        d_model: Features of the first block; each block halves them.
        n_layers: Number of blocks.
        d_state: State size of each channel.
        dropout: Dropout probability in [0, 1).
    """

    name: str = "decoder"
    d_model: int = 1024
    n_layers: int = 3
    d_state: int = DecoderConfig.d_state
    dropout: float = DecoderConfig.dropout

    def __post_init__(self) -> None:
        # The data set decides the other sizes, whose rules the smallest possible ones cannot break.
        self.decoder_config(d_input=1, l_max=2 ** min(self.n_layers, 64), d_output=1)

    def decoder_config(self, *, d_input: int, l_max: int, d_output: int) -> DecoderConfig:
        """Returns the configuration of the head's decoder.

        Raises:
            ConfigError: A size breaks its rule.
        """
        return DecoderConfig(
            d_input=d_input,
            l_max=l_max,
            d_output=d_output,
            d_model=self.d_model,
            n_layers=self.n_layers,
            d_state=self.d_state,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class ExtractSettings:
    """Everything that determines the tokens of a movie.

    Attributes:
        protocol: Name of a published benchmark. `from_dict` takes its encoder and preprocessing.
        encoder: Frozen encoder.
        preprocessing: Preprocessing of the frames.
        cache_dtype: Type of the stored tokens.
        seed: Seed of random encoder weights.
    """

    protocol: str | None = None
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    cache_dtype: TokenDtype = "bf16"
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values from which `from_dict` builds an equal object."""
        values: dict[str, Any] = to_plain(self)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds settings from plain values; missing ones come from the protocol, or else are the defaults.

        Raises:
            ConfigError: A key is unknown, or a value has the wrong type or breaks its rule.
        """
        prescribed = _prescribed(values, "protocol")
        base: dict[str, Any] = {name: prescribed[name] for name in ("encoder", "preprocessing") if name in prescribed}
        return from_plain(cls, merged(base, values))


@dataclass(frozen=True)
class TrainSettings:
    """Everything that determines the result of a training run on a CPU.

    ``vis4mer.train`` stores the settings as ``settings.yaml`` in the run's folder; see
    `vis4mer.training.settings_file`.

    Attributes:
        data: Data set.
        encoder: Frozen encoder.
        preprocessing: Preprocessing of the frames.
        windows: Windows that a movie is cut into.
        head: Head to train.
        training: Hyperparameters, and the seed of everything random, including random encoder weights.
        cache_dtype: Type of the stored tokens.
    """

    data: DataSettings
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    windows: WindowConfig = field(default_factory=WindowConfig)
    head: HeadSettings = field(default_factory=HeadSettings)
    training: TrainConfig = field(default_factory=TrainConfig)
    cache_dtype: TokenDtype = "bf16"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values from which `from_dict` builds an equal object."""
        values: dict[str, Any] = to_plain(self)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds settings from plain values; missing ones come from the protocol, or else are the defaults.

        Args:
            values: Settings in the form of `to_dict`, all or some of them. ``training.schedule`` defaults to
                ``plateau`` with a protocol or with ``training.as_published``.

        Raises:
            ConfigError: A key is unknown or missing, or a value has the wrong type or breaks its rule.
        """
        base = _prescribed(section(values, "data"), "protocol")
        if section(values, "training").get("as_published") is True:
            base = merged({"training": {"schedule": "plateau"}}, base)
        return from_plain(cls, merged(base, values))

    @classmethod
    def published(cls, protocol: str, *, videos: Path, splits: Path) -> Self:
        """Returns the settings of a published benchmark.

        Args:
            protocol: Name of the benchmark, such as ``lvu/scene``.
            videos: Folder of its videos.
            splits: Folder of its own split files.

        Raises:
            ConfigError: There is no such benchmark.
        """
        return cls.from_dict({"data": {"protocol": protocol, "videos": str(videos), "splits": str(splits)}})

    def with_absolute_paths(self) -> Self:
        """Returns the settings with absolute paths; relative ones start at the working directory."""
        return self.from_dict(absolute_paths(self.to_dict(), Path.cwd()))


def absolute_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Makes the paths in the plain values of a `TrainSettings` absolute.

    Args:
        values: Settings in the form of `TrainSettings.to_dict`, all or some of them; they need not be valid.
        folder: Folder that relative paths start at.
    """
    result = dict(values)
    for key, names in (("data", ("movies", "videos", "splits")), ("encoder", ("weights",))):
        paths = {name: path for name, path in section(values, key).items() if name in names}
        for name, path in paths.items():
            if isinstance(path, str) and path not in _WEIGHT_NAMES:
                result = merged(result, {key: {name: str(folder / path)}})
    return result


def section(values: object, name: str) -> Mapping[str, Any]:
    """Returns the mapping under a key of plain values; empty if there is none."""
    found = values.get(name) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _prescribed(values: object, key: str) -> dict[str, Any]:
    """Returns the settings of the benchmark that ``values[key]`` names; empty if it names none."""
    name = values.get(key) if isinstance(values, Mapping) else None
    return find_protocol(name).settings() if isinstance(name, str) else {}
