"""Dataclasses from and to the plain values of YAML and JSON, with errors that name the key."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from vis4mer.errors import ConfigError
from vis4mer.text import printable

T = TypeVar("T")

_PLAIN_TYPES = {str: "text", bool: "true or false", int: "an integer"}


def to_plain(value: Any) -> Any:
    """Converts a dataclass and everything in it to mappings, lists, texts, numbers, booleans and None."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(cls: type[T], values: object, key: str = "") -> T:
    """Builds a dataclass from plain values, which must have the annotated types.

    Args:
        cls: Dataclass whose fields are numbers, texts, booleans, paths, literals, optional ones of these, tuples, or
            dataclasses of the same kind.
        values: Mapping from names of fields to values; fields without a value keep their defaults.
        key: Key of the mapping, such as ``training``; empty for the outermost one.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type or breaks its rule; the message names
            the key with the keys around it, such as ``training.lr``.
    """
    if not isinstance(values, Mapping):
        raise ConfigError.of(key or "settings", values, f"must be a mapping with keys such as {_names(cls)[0]!r}")
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in _names(cls):
            unknown = _joined(key, printable(str(name)))
            raise ConfigError(f"{unknown}: unknown key; known keys are {', '.join(_names(cls))}")
        arguments[name] = _converted(hints[name], value, _joined(key, name))
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in arguments and not has_default:
            raise ConfigError(f"{_joined(key, field.name)}: is missing; set it")
    try:
        return cls(**arguments)
    except ConfigError as error:
        # The dataclass names its own field: "lr=0: must be ..." becomes "training.lr=0: must be ...".
        raise ConfigError(_joined(key, str(error))) from None


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with the values of `changes`, key by key also within mappings."""
    result = dict(base)
    for name, value in changes.items():
        before = result.get(name)
        both_are_mappings = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[name] = merged(before, value) if both_are_mappings else value  # type: ignore[arg-type]
    return result


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _joined(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _converted(hint: Any, value: object, key: str) -> Any:
    """Returns `value` as the annotated type `hint`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        # Only optional types are supported, so exactly one alternative remains.
        (hint,) = (argument for argument in arguments if argument is not types.NoneType)
        return _converted(hint, value, key)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError.of(key, value, f"must be one of {arguments}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            raise ConfigError.of(key, value, f"must be a list of {len(arguments)} values")
        return tuple(_converted(item, part, key) for item, part in zip(arguments, value, strict=True))
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, key)  # type: ignore[arg-type]
    if hint is Path:
        return Path(_plain(str, value, key))
    if hint is float:
        # YAML reads 3 as an integer, which is a valid value of a float field.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError.of(key, value, "must be a number")
        try:
            # Python's integers have no bound, but floats do.
            return float(value)
        except OverflowError:
            raise ConfigError.of(key, value, "must be a number below 1e308") from None
    return _plain(hint, value, key)


def _plain(expected: type[T], value: object, key: str) -> T:
    # A boolean is an int in Python, but not in a settings file.
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError.of(key, value, f"must be {_PLAIN_TYPES[expected]}")
    return value
