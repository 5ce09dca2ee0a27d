import pickle
from pathlib import Path

import pytest

from vis4mer.errors import ConfigError, DeviceError, MissingDependencyError, VideoError, Vis4merError


def test_the_message_names_value_rule_and_remedy() -> None:
    error = DeviceError.of("device", "cuda:3", "this machine has 2 GPUs", "use cuda:0 or cuda:1")
    assert type(error) is DeviceError
    assert str(error) == "device='cuda:3': this machine has 2 GPUs; use cuda:0 or cuda:1"


def test_the_remedy_is_optional() -> None:
    assert str(ConfigError.of("dropout", 1.5, "must be in [0, 1)")) == "dropout=1.5: must be in [0, 1)"


def test_a_path_is_shown_as_a_string() -> None:
    error = VideoError.of("video", Path("films") / "a b.mkv", "no such file")
    assert str(error) == "video='films/a b.mkv': no such file"


def test_a_value_with_line_breaks_stays_on_one_line() -> None:
    assert str(ConfigError.of("labels", ("a\nb",), "must be strings")) == "labels=('a\\nb',): must be strings"


def test_a_value_of_any_size_is_shortened_unless_it_is_text() -> None:
    numbers, path = list(range(1000)), "a" * 1000
    assert str(ConfigError.of("axes", numbers, "must be short")) == f"axes={str(numbers)[:200]}...: must be short"
    assert str(ConfigError.of("video", path, "no such file")) == f"video={path!r}: no such file"


@pytest.mark.parametrize("kind", [Vis4merError, *Vis4merError.__subclasses__()])
def test_every_error_survives_a_process_boundary(kind: type[Vis4merError]) -> None:
    error = kind.of("batch_size", 0, "must be positive")
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is kind
    assert str(restored) == "batch_size=0: must be positive"


def test_errors_are_caught_as_their_built_in_kin() -> None:
    for kind, builtin in ((ConfigError, ValueError), (VideoError, OSError), (MissingDependencyError, ImportError)):
        with pytest.raises(builtin):
            raise kind.of("value", 1, "is refused")
