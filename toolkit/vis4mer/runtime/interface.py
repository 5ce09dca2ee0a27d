"""The interface of an exported graph: the names, element types and axes of its inputs and outputs.

An export derives it from the model's configuration and stores it in the manifest. Everything that runs or checks a
graph reads it from there, so the names and shapes below appear nowhere else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from vis4mer.config import ModelConfig
from vis4mer.devices.arrays import Array
from vis4mer.errors import ConfigError

ENCODER = "encoder"
BATCH = "batch"

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Names of booleans, integers and floating-point numbers. `np.dtype` parses any text, and fails in many ways.
_DTYPES = frozenset(np.dtype(code).name for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: Name within the graph.
        dtype: NumPy's name of the element type, such as ``uint8``.
        axes: Size of each axis, or the name of an axis whose size may vary from call to call, such as ``batch``.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]

    def __str__(self) -> str:
        """The tensor as error messages show it: ``frames uint8[batch, 224, 224, 3]``."""
        return f"{self.name} {_shown(self.dtype, self.axes)}"

    def shape(self, /, **sizes: int) -> tuple[int, ...]:
        """Returns the shape for given sizes of the dynamic axes: ``spec.shape(batch=2)``.

        Raises:
            ConfigError: A dynamic axis has no size.
        """
        for axis in self.axes:
            if isinstance(axis, str) and axis not in sizes:
                raise ConfigError.of("axis", axis, f"of {self} must be fixed", "export the graph with a fixed size")
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.axes)

    def dynamic_sizes(self, array: Array) -> dict[str, int] | None:
        """Returns the size that `array` gives each dynamic axis, or None if its type or shape does not fit."""
        shape = tuple(array.shape)
        if array.dtype != np.dtype(self.dtype) or len(shape) != len(self.axes):
            return None
        sizes: dict[str, int] = {}
        for axis, size in zip(self.axes, shape, strict=True):
            expected = sizes.setdefault(axis, size) if isinstance(axis, str) else axis
            if size != expected:
                return None
        return sizes

    def same_as(self, other: "TensorSpec") -> bool:
        """Returns whether two specifications agree in all but the names of dynamic axes."""
        return (self.name, self.dtype, _fixed(self.axes)) == (other.name, other.dtype, _fixed(other.axes))

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form that `from_dict` reads."""
        return {"name": self.name, "dtype": self.dtype, "axes": list(self.axes)}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Reads the JSON form.

        Raises:
            ConfigError: A key is missing or unknown, or a value breaks its rule.
        """
        fields = _require_keys("tensor", values, ("name", "dtype", "axes"))
        name, dtype, axes = fields["name"], fields["dtype"], _require_list("axes", fields["axes"])
        if not _is_identifier(name):
            raise ConfigError.of("name", name, "must be an identifier")
        if not _is_dtype(dtype):
            raise ConfigError.of("dtype", dtype, "must be NumPy's name of a number type, such as float32")
        if axes[:1] != [BATCH]:
            raise ConfigError.of("axes", axes, f"must begin with the dynamic axis {BATCH!r}")
        for axis in axes:
            if not (_is_identifier(axis) or (type(axis) is int and axis >= 1)):
                raise ConfigError.of("axis", axis, "must be a positive size or the name of a dynamic axis")
        return cls(name, dtype, tuple(axes))


@dataclass(frozen=True)
class GraphInterface:
    """The inputs and outputs of a graph, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __str__(self) -> str:
        """The interface as error messages show it: ``(x float32[batch, 2]) -> (y float32[batch, 3])``."""
        inputs, outputs = (", ".join(map(str, tensors)) for tensors in (self.inputs, self.outputs))
        return f"({inputs}) -> ({outputs})"

    @property
    def input(self) -> TensorSpec:
        """The input of a graph that has one, as all graphs of this version have."""
        (tensor,) = self.inputs
        return tensor

    @property
    def output(self) -> TensorSpec:
        """The output of a graph that has one, as all graphs of this version have."""
        (tensor,) = self.outputs
        return tensor

    def same_as(self, other: "GraphInterface") -> bool:
        """Returns whether two interfaces agree in names, types and fixed axes."""
        ours, theirs = (*self.inputs, *self.outputs), (*other.inputs, *other.outputs)
        counts_agree = (len(self.inputs), len(self.outputs)) == (len(other.inputs), len(other.outputs))
        return counts_agree and all(a.same_as(b) for a, b in zip(ours, theirs, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form that `from_dict` reads."""
        return {"inputs": [t.to_dict() for t in self.inputs], "outputs": [t.to_dict() for t in self.outputs]}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Reads the JSON form.

        Raises:
            ConfigError: A key is missing or unknown, or a value breaks its rule.
        """
        fields = _require_keys("interface", values, ("inputs", "outputs"))
        inputs, outputs = (
            tuple(TensorSpec.from_dict(tensor) for tensor in _require_list(side, fields[side]))
            for side in ("inputs", "outputs")
        )
        interface = cls(inputs, outputs)
        if (len(inputs), len(outputs)) != (1, 1):
            raise ConfigError.of("interface", str(interface), "a graph must have one input and one output")
        return interface


def graph_interfaces(model: ModelConfig, length: int | None = None) -> dict[str, GraphInterface]:
    """Derives the interface of every graph of a model: of its encoder, if it has one, and of its heads.

    Args:
        model: Configuration of the model.
        length: L, the number of tokens in a head's input; `window_length` by default.

    Returns:
        Interfaces by graph name. The encoder maps frames uint8 [N, H, W, 3] to tokens float32 [N, P, D]; a head maps
        features float32 [B, L, d_input] to logits float32 [B, d_output].
    """
    length = window_length(model) if length is None else length
    interfaces = {}
    if model.encoder is not None:
        size = model.preprocessing
        interfaces[ENCODER] = GraphInterface(
            (TensorSpec("frames", "uint8", (BATCH, size.height, size.width, 3)),),
            (TensorSpec("tokens", "float32", (BATCH, model.encoder.tokens, model.encoder.features)),),
        )
    for name, head in model.heads.items():
        interfaces[name] = GraphInterface(
            (TensorSpec("features", "float32", (BATCH, length, head.decoder.d_input)),),
            (TensorSpec("logits", "float32", (BATCH, head.decoder.d_output)),),
        )
    return interfaces


def window_length(model: ModelConfig) -> int:
    """Returns L in tokens: that of a window's frames, or the shortest head's l_max if the model has no encoder."""
    if model.encoder is not None:
        return model.window_frames * model.encoder.tokens
    return min(head.decoder.l_max for head in model.heads.values())


def shown(array: Array) -> str:
    """Returns an array's type and shape as error messages show them: ``uint8[2, 224, 224, 3]``."""
    return _shown(str(array.dtype), tuple(array.shape))


def _shown(dtype: str, axes: tuple[int | str, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, axes))}]"


def _fixed(axes: tuple[int | str, ...]) -> tuple[int | None, ...]:
    return tuple(None if isinstance(axis, str) else axis for axis in axes)


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value in _DTYPES


def _require_keys(kind: str, values: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping) or set(values) != set(keys):
        raise ConfigError.of(kind, values, f"must be a JSON object with the keys {', '.join(keys)}")
    return values


def _require_list(name: str, values: object) -> list[Any]:
    if not isinstance(values, list):
        raise ConfigError.of(name, values, "must be a JSON list")
    return values
