import pytest

from vis4mer.errors import ConfigError
from vis4mer.training.config import TrainConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("ssm_lr", -1),
        ("weight_decay", -0.1),
        ("schedule", "linear"),
        ("warmup", 1),
        ("clip_norm", 0),
        ("seed", -1),
        ("precision", "fp16"),
    ],
)
def test_a_value_outside_its_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}|{name}='{value}'"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


def test_as_published_requires_the_published_schedule() -> None:
    assert TrainConfig(schedule="plateau", as_published=True).as_published
    with pytest.raises(ConfigError, match="schedule='cosine': must be 'plateau'"):
        TrainConfig(as_published=True)
