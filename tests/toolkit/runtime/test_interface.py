import json
from typing import Any

import numpy as np
import pytest

from vis4mer.config import ModelConfig
from vis4mer.errors import BundleError, ConfigError
from vis4mer.runtime.backends.base import CheckedRunner
from vis4mer.runtime.interface import ENCODER, GraphInterface, TensorSpec, graph_interfaces, window_length

FRAMES = TensorSpec("frames", "uint8", ("batch", 8, 8, 3))
TOKENS = TensorSpec("tokens", "float32", ("batch", 2, 4))
INTERFACE = GraphInterface((FRAMES,), (TOKENS,))


def test_a_models_graphs(tiny_config: ModelConfig) -> None:
    found = {graph: str(interface) for graph, interface in graph_interfaces(tiny_config).items()}
    assert found == {
        "encoder": "(frames uint8[batch, 8, 8, 3]) -> (tokens float32[batch, 2, 4])",
        "colour": "(features float32[batch, 10, 4]) -> (logits float32[batch, 3])",
        "light": "(features float32[batch, 10, 4]) -> (logits float32[batch, 1])",
    }


def test_heads_may_have_another_length(tiny_config: ModelConfig) -> None:
    assert window_length(tiny_config) == 10
    interfaces = graph_interfaces(tiny_config, 6)
    assert interfaces["light"].input.axes == ("batch", 6, 4)
    assert interfaces[ENCODER] == graph_interfaces(tiny_config)[ENCODER]


def test_a_model_without_encoder_has_heads_of_its_shortest_l_max(tiny_config: ModelConfig) -> None:
    values = tiny_config.to_dict() | {"encoder": None}
    values["heads"]["light"]["decoder"]["l_max"] = 7
    config = ModelConfig.from_dict(values)
    assert window_length(config) == 7
    assert list(graph_interfaces(config)) == ["colour", "light"]


def test_json_round_trip() -> None:
    assert GraphInterface.from_dict(json.loads(json.dumps(INTERFACE.to_dict()))) == INTERFACE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "interface=None: must be a JSON object with the keys inputs, outputs"),
        ({"inputs": []}, "must be a JSON object with the keys inputs, outputs"),
        ({"inputs": {}, "outputs": []}, "inputs={}: must be a JSON list"),
        ({"inputs": [], "outputs": [TOKENS.to_dict()]}, "a graph must have one input and one output"),
        ({"inputs": [FRAMES.to_dict()] * 2, "outputs": [TOKENS.to_dict()]}, "a graph must have one input"),
        ({"inputs": [3], "outputs": []}, "tensor=3: must be a JSON object with the keys name, dtype, axes"),
    ],
)
def test_an_invalid_interface_is_a_one_line_error(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        GraphInterface.from_dict(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name='': must be an identifier"),
        ({"name": "a\nb"}, r"name='a\\nb'"),
        ({"name": 1}, "name=1"),
        ({"dtype": "float"}, "dtype='float': must be NumPy's name"),
        ({"dtype": "object"}, "dtype='object'"),
        ({"dtype": "nonsense"}, "dtype='nonsense'"),
        ({"dtype": "\ud800"}, r"dtype='.ud800'"),
        ({"dtype": "("}, r"dtype=.[(]."),
        ({"dtype": None}, "dtype=None"),
        ({"axes": []}, r"axes=\[\]: must begin with the dynamic axis 'batch'"),
        ({"axes": [1, 8]}, "must begin with the dynamic axis"),
        ({"axes": "batch"}, "axes='batch': must be a JSON list"),
        ({"axes": ["batch", 0]}, "axis=0: must be a positive size or the name of a dynamic axis"),
        ({"axes": ["batch", True]}, "axis=True"),
        ({"axes": ["batch", 2.0]}, r"axis=2\.0"),
        ({"axes": ["batch", None]}, "axis=None"),
        ({"more": 1}, "must be a JSON object with the keys name, dtype, axes"),
    ],
)
def test_an_invalid_tensor_is_a_one_line_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        TensorSpec.from_dict(FRAMES.to_dict() | changes)
    assert "\n" not in str(error.value)


def test_axes_of_one_name_have_one_size() -> None:
    square = TensorSpec("x", "float32", ("batch", "side", "side"))
    assert square.dynamic_sizes(np.zeros((2, 3, 3), np.float32)) == {"batch": 2, "side": 3}
    assert square.dynamic_sizes(np.zeros((2, 3, 4), np.float32)) is None
    assert square.shape(batch=5, side=2) == (5, 2, 2)
    with pytest.raises(ConfigError, match="axis='side'"):
        square.shape(batch=5)


def test_an_axis_may_have_any_name() -> None:
    spec = TensorSpec("x", "float32", ("batch", "self"))
    assert spec.shape(batch=2, self=3) == (2, 3)


def test_names_of_dynamic_axes_do_not_matter() -> None:
    other = TensorSpec("frames", "uint8", ("N", 8, 8, 3))
    assert FRAMES.same_as(other)
    assert not FRAMES.same_as(TensorSpec("frames", "uint8", (2, 8, 8, 3)))
    assert INTERFACE.same_as(GraphInterface((other,), (TOKENS,)))
    assert not INTERFACE.same_as(GraphInterface((FRAMES, FRAMES), (TOKENS,)))
    assert not INTERFACE.same_as(GraphInterface((FRAMES,), (FRAMES,)))


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_checked_runner_passes_what_fits(n: int) -> None:
    result = np.ones((n, 2, 4), np.float32)
    assert CheckedRunner(lambda batch: result, "encoder", INTERFACE)(np.zeros((n, 8, 8, 3), np.uint8)) is result


@pytest.mark.parametrize(
    "batch", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)]
)
def test_a_batch_that_does_not_fit_never_reaches_the_backend(batch: Any) -> None:
    def fail(batch: Any) -> Any:
        raise AssertionError

    with pytest.raises(
        BundleError, match=r"^graph='encoder': takes frames uint8\[batch, 8, 8, 3\], not [a-z0-9]+\["
    ) as e:
        CheckedRunner(fail, "encoder", INTERFACE)(batch)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "result", [np.zeros((1, 2, 4), np.float32), np.zeros((2, 2, 5), np.float32), np.zeros((2, 2, 4), np.float64)]
)
def test_a_result_that_does_not_fit_is_never_returned(result: Any) -> None:
    run = CheckedRunner(lambda batch: result, "encoder", INTERFACE)
    with pytest.raises(
        BundleError, match=r"^graph='encoder': returned .*, not tokens float32\[batch, 2, 4\]; export it"
    ):
        run(np.zeros((2, 8, 8, 3), np.uint8))
