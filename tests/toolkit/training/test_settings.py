"""Settings as dataclasses, plain values and YAML."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vis4mer.config import Preprocessing, WindowConfig
from vis4mer.errors import ConfigError
from vis4mer.training.config import TrainConfig
from vis4mer.training.data.protocols import PROTOCOLS
from vis4mer.training.settings import DataSettings, EncoderSettings, ExtractSettings, HeadSettings, TrainSettings
from vis4mer.training.settings_file import dump_settings, read_settings

MOVIES = {"data": {"movies": "movies.csv"}}


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_benchmarks_settings_survive_the_file(tmp_path: Path, protocol: str) -> None:
    settings = TrainSettings.published(protocol, videos=tmp_path / "videos", splits=tmp_path / "splits")
    assert settings.training.schedule == "plateau"
    assert settings.encoder.name == PROTOCOLS[protocol].encoder
    assert settings.preprocessing == PROTOCOLS[protocol].preprocessing
    assert TrainSettings.from_dict(settings.to_dict()) == settings
    assert read_settings(write(tmp_path, dump_settings(settings))) == settings


def test_values_that_yaml_could_change_survive_the_file(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "data": {"movies": str(tmp_path / "naïve: 1.csv"), "val_ratio": 1 / 3},
        "encoder": {"name": "no", "weights": "random"},
        "preprocessing": {"mean": [0.1, 0.2, 0.3], "std": [1e-7, 1, 2]},
        "head": {"name": "null"},
        "training": {"lr": 1e-05, "ssm_lr": 1e22},
    }
    settings = TrainSettings.from_dict(values)
    assert (settings.encoder.name, settings.head.name, settings.training.lr) == ("no", "null", 1e-05)
    assert read_settings(write(tmp_path, dump_settings(settings))) == settings


TEXTS = st.text(min_size=1) | st.sampled_from(["1e5", "-1E+3", "0x1f", "1_0", "1:30", "~", "yes", ".inf", "2024-01-02"])
PATHS = TEXTS.map(lambda text: Path("/") / text)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
FRACTIONS = st.floats(min_value=0, max_value=1, exclude_max=True)
COUNTS = st.integers(min_value=1)
SETTINGS = st.builds(
    TrainSettings,
    data=st.builds(
        DataSettings,
        movies=PATHS,
        protocol=st.none(),
        videos=st.none(),
        splits=st.none(),
        val_ratio=FRACTIONS.filter(bool),
    )
    | st.builds(DataSettings, movies=st.none(), protocol=st.sampled_from(list(PROTOCOLS)), videos=PATHS, splits=PATHS),
    encoder=st.builds(EncoderSettings, name=TEXTS, weights=st.sampled_from(["hub", "random"]) | PATHS.map(str)),
    preprocessing=st.builds(
        Preprocessing,
        fps=st.floats(min_value=1e-300, max_value=1000),
        last_frame=st.booleans(),
        mean=st.tuples(*3 * [FRACTIONS]),
    )
    | st.builds(Preprocessing, segments=COUNTS),
    windows=st.builds(WindowConfig, seconds=POSITIVE, stride=POSITIVE) | st.builds(WindowConfig, samples=COUNTS),
    head=st.builds(HeadSettings, name=TEXTS, d_state=st.sampled_from([2, 64]), dropout=FRACTIONS),
    training=st.builds(
        TrainConfig,
        epochs=COUNTS,
        batch_size=COUNTS,
        lr=POSITIVE,
        ssm_lr=POSITIVE,
        weight_decay=POSITIVE,
        schedule=st.just("plateau"),
        warmup=FRACTIONS,
        clip_norm=POSITIVE,
        seed=st.integers(0, 2**32 - 1),
        precision=st.sampled_from(["fp32", "bf16"]),
        as_published=st.booleans(),
    ),
    cache_dtype=st.sampled_from(["fp32", "bf16"]),
)


@given(settings=SETTINGS)
@hypothesis.settings(deadline=None)
def test_any_settings_survive_the_file(tmp_path_factory: pytest.TempPathFactory, settings: TrainSettings) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert read_settings(write(folder, dump_settings(settings))) == settings


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    text = "data: {movies: sub/movies.csv}\nencoder: {weights: weights.pt}\n"
    settings = read_settings(write(tmp_path, text))
    assert settings.data.movies == tmp_path / "sub/movies.csv"
    assert settings.encoder.weights == str(tmp_path / "weights.pt")
    assert read_settings(write(tmp_path, "data: {movies: /movies.csv}\n")).data.movies == Path("/movies.csv")
    assert read_settings(write(tmp_path, text), {"encoder": {"weights": "hub"}}).encoder.weights == "hub"
    assert read_settings(write(tmp_path, text), MOVIES).data.movies == Path.cwd() / "movies.csv"


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.001", "1.0e-3"])
def test_numbers_may_have_any_usual_form(tmp_path: Path, text: str) -> None:
    settings = read_settings(write(tmp_path, f"data: {{movies: m.csv}}\ntraining: {{lr: {text}, clip_norm: 2}}\n"))
    assert settings.training.lr == 1e-3
    assert isinstance(settings.training.clip_norm, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "data: is missing"),
        ("", "data: is missing"),
        ("- 1", "must be a mapping with keys such as 'data'"),
        ("data: 3", "data=3: must be a mapping with keys such as 'movies'"),
        ("data: {}", "data.movies=None: there is no data set"),
        (
            "data: {movies: a.csv, protocol: coin, videos: v, splits: s}",
            "data.movies='.*a.csv': cannot be combined with a protocol",
        ),
        ("data: {protocol: coin, videos: v}", "data.splits=None: must be set with a protocol"),
        ("data: {movies: a.csv, videos: v}", "data.videos='.*v': must be set with a protocol, and only then"),
        ("data: {protocol: lvu, videos: v, splits: s}", "protocol='lvu': must be one of lvu/relationship"),
        ("data: {movies: 3}", "data.movies=3: must be text"),
        ("data: {movies: a.csv, val_ratio: 1}", r"data.val_ratio=1.0: must be in \(0, 1\)"),
        ("trainig: {}", "trainig: unknown key; known keys are data, encoder"),
        ("training: {learning_rate: 1}", "training.learning_rate: unknown key; known keys are epochs"),
        ("1: 2", "1: unknown key"),
        ('"a\\nb": 2', r"a\\nb: unknown key"),
        ("training: {lr: fast}", "training.lr='fast': must be a number"),
        ("training: {lr: true}", "training.lr=True: must be a number"),
        ("training: {lr: 0}", "training.lr=0.0: must be positive"),
        ("training: {epochs: 1.5}", "training.epochs=1.5: must be an integer"),
        ("training: {epochs: true}", "training.epochs=True: must be an integer"),
        ("training: {epochs: null}", "training.epochs=None: must be an integer"),
        ("training: {schedule: linear}", "training.schedule='linear': must be one of"),
        ("training: {as_published: 1}", "training.as_published=1: must be true or false"),
        ("head: {name: no}", "head.name=False: must be text"),
        ("head: {d_model: 30}", "head.d_model=30: must be divisible by"),
        ("head: {n_layers: 0}", "head.n_layers=0: must be a positive integer"),
        ("preprocessing: {height: 9000}", "preprocessing.height=9000: must be an integer from 1"),
        ("preprocessing: {mean: [0, 0]}", "preprocessing.mean=.*must be a list of 3 values"),
        ("preprocessing: {mean: [0, 0, x]}", "preprocessing.mean='x': must be a number"),
        ("windows: {samples: many}", "windows.samples='many': must be an integer"),
        ("cache_dtype: fp16", "cache_dtype='fp16': must be one of"),
        ("training: {lr: 1" + 400 * "0" + "}", r"training.lr=10+\.\.\.: must be a number below"),
        ("training: [", "not YAML"),
        ("data: {movies: 2024-13-45}", "not YAML .month must be in 1..12"),
        ("training: {epochs: 0x_}", "not YAML .invalid literal"),
        ("training: " + 2000 * "[", "is nested too deeply; correct the file"),
        ("training: {epochs: 1, epochs: 2}", "key 'epochs' occurs twice"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    if not text.startswith(("data", "{}", "-", "!!")) and text:
        text = f"data: {{movies: m.csv}}\n{text}"
    with pytest.raises(ConfigError, match=message) as error:
        read_settings(write(tmp_path, text))
    assert str(error.value).startswith(f"config={str(tmp_path / 'experiment.yaml')!r}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config='.*settings.yaml': (no such file|cannot be read)"):
        read_settings(path)


def test_dataclasses_check_themselves() -> None:
    with pytest.raises(ConfigError, match="cannot be combined with a protocol"):
        DataSettings(movies=Path("a"), protocol="coin", videos=Path("b"), splits=Path("c"))
    with pytest.raises(ConfigError, match="dropout=1"):
        HeadSettings(dropout=1)


def test_extraction_takes_a_benchmarks_encoder_and_frames() -> None:
    settings = ExtractSettings.from_dict({"protocol": "coin", "preprocessing": {"segments": 8}, "seed": 3})
    assert settings == ExtractSettings(
        "coin", EncoderSettings("swin3d_b"), Preprocessing(segments=8), cache_dtype="bf16", seed=3
    )
    assert ExtractSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ConfigError, match="windows: unknown key"):
        ExtractSettings.from_dict({"windows": {}})
