import json

import pytest

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.errors import ConfigError


def decoder(**changes: object) -> DecoderConfig:
    return DecoderConfig(**{"d_input": 64, "l_max": 1020, "d_output": 2, "d_model": 64, "n_layers": 3} | changes)  # type: ignore[arg-type]


SWIN = EncoderConfig("swin3d_b", 49, 64, frames=32)
SAMPLES = WindowConfig(samples=64)
ONE_FRAME = WindowConfig(seconds=1)


def test_a_configuration_survives_json() -> None:
    config = ModelConfig(
        heads={
            "story": HeadConfig(decoder(), labels=("a", "b")),
            "likes": HeadConfig(decoder(d_output=1), "regression"),
        },
        encoder=EncoderConfig("test_vit", 17, 64),
        preprocessing=Preprocessing(fps=2.0, height=64, width=96, resize="crop", mean=(0.5, 0.4, 0.3)),
        windows=WindowConfig(30.0, 5.0),
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.window_frames == 60


def test_the_papers_setting_is_the_default() -> None:
    config = ModelConfig({"scene": HeadConfig(DecoderConfig(1024, 60 * 197, 6, 1024, 3))})
    assert config.window_frames * config.encoder.tokens == 11820  # type: ignore[union-attr]
    assert (config.preprocessing.fps, config.preprocessing.mean, config.preprocessing.std) == (1, (0,) * 3, (1,) * 3)


def test_a_model_of_segments() -> None:
    config = ModelConfig({"dish": HeadConfig(decoder(l_max=3136))}, SWIN, Preprocessing(segments=512), SAMPLES)
    assert config.window_frames * 49 == 3136
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: decoder(d_model=60), "d_model=60: must be divisible by 2[*][*]n_layers=8"),
        (lambda: decoder(l_max=7), "l_max=7: must be at least"),
        (lambda: decoder(d_state=63), "d_state=63: must be even"),
        (lambda: decoder(dropout=1.0), "dropout=1.0: must be in"),
        (lambda: decoder(n_layers=True), "n_layers=True: must be a positive integer"),
        (lambda: decoder(d_output=10**9), "d_output=1000000000: must be at most 1,000,000"),
        (lambda: decoder(n_layers=2**62), "n_layers=4611686018427387904: must be at most 62"),
        (lambda: Preprocessing(fps=10**400), "fps=10+[.]*: must be in"),
        (lambda: WindowConfig(seconds=1e308), "seconds=1e[+]308: must be positive, and at most 1e[+]300 seconds"),
        (lambda: WindowConfig(stride=1e308), "stride=1e[+]308: must be positive, and at most"),
        (lambda: HeadConfig(decoder(), labels=("a",)), "must be d_output=2 names"),
        (lambda: HeadConfig(decoder(), labels=("a", "a")), "must be distinct"),
        (lambda: HeadConfig(decoder(), "regression"), "must be 1 for a regression head"),
        (lambda: Preprocessing(fps=float("nan")), "fps=nan: must be in"),
        (lambda: Preprocessing(height=0), "height=0"),
        (lambda: Preprocessing(resize="pad"), "resize='pad': must be one of"),  # type: ignore[arg-type]
        (lambda: Preprocessing(std=(1.0, 0.0, 1.0)), "std=.*must be positive"),
        (lambda: WindowConfig(stride=-1), "stride=-1"),
        (lambda: ModelConfig({}, encoder=None), "must name at least one head"),
        (lambda: ModelConfig({"../x": HeadConfig(decoder())}, encoder=None), "head='../x': must start with a letter"),
        (lambda: ModelConfig({"encoder": HeadConfig(decoder())}, encoder=None), "head='encoder': .*not be 'encoder'"),
        (
            lambda: ModelConfig({"a": HeadConfig(decoder(n_layers=6))}, EncoderConfig("x", 17, 64), windows=ONE_FRAME),
            "a.n_layers=6: must leave a token of a window's 17",
        ),
        (lambda: ModelConfig({"a": HeadConfig(decoder())}, EncoderConfig("x", 17, 32)), "must equal the encoder's"),
        (lambda: ModelConfig({"a": HeadConfig(decoder())}, EncoderConfig("x", 18, 64)), "must hold a window of 60"),
        (lambda: Preprocessing(segments=0), "segments=0: must be a positive integer"),
        (lambda: Preprocessing(segments=4, last_frame=True), "last_frame=True: must be false with segments"),
        (lambda: WindowConfig(samples=1.5), "samples=1.5: must be a positive integer"),  # type: ignore[arg-type]
        (
            lambda: ModelConfig({"a": HeadConfig(decoder())}, SWIN),
            "segments=None: must be set for encoders that take segments",
        ),
        (
            lambda: ModelConfig({"a": HeadConfig(decoder())}, EncoderConfig("x", 17, 64), Preprocessing(segments=4)),
            "segments=4: .* x takes 1 frame at once",
        ),
        (
            lambda: ModelConfig({"a": HeadConfig(decoder())}, SWIN, Preprocessing(segments=512)),
            "samples=None: must be set",
        ),
        (lambda: Preprocessing.from_dict({"size": 3}), "unknown key 'size'"),
        (lambda: DecoderConfig.from_dict({"l_max": 3}), "missing 4 required positional arguments"),
        (lambda: ModelConfig.from_dict({"heads": []}), "must be a JSON object"),
    ],
)
def test_each_rule_names_the_value(build, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
