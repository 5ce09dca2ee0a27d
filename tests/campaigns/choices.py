"""Turns the bytes that a fuzzer varies into values: numbers, texts, choices, altered JSON."""

import copy
import json
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 1000, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**64, 10**400)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", "0", "a", "\0", "\ud800", "../a", "é" * 300, [], {}, [[]], [0], [None], {"": None}, {"a": {}}),
)


class Choices:
    """Consumes bytes; when they are used up, every choice is the first.

    Args:
        data: Bytes that determine the choices.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return self._position < len(self._data)

    def take(self, count: int) -> bytes:
        """Returns the next bytes, fewer at the end."""
        self._position += count
        return self._data[self._position - count : self._position]

    def rest(self) -> bytes:
        """Returns all bytes that are left."""
        return self.take(max(0, len(self._data) - self._position))

    def below(self, end: int) -> int:
        """Returns a number from 0 to `end`, exclusive."""
        return int.from_bytes(self.take((end.bit_length() + 7) // 8), "big") % end

    def pick(self, options: Sequence[T]) -> T:
        """Returns one of some options."""
        return options[self.below(len(options))]

    def number(self) -> int:
        """Returns a number of up to 64 bits, with sign: small, extreme or any."""
        match self.below(3):
            case 0:
                return self.below(256)
            case 1:
                return max(-(2**63), min(self.pick(_NUMBERS), 2**63 - 1))
        return int.from_bytes(self.take(8), "big", signed=True)

    def text(self) -> str:
        """Returns a short text."""
        return self.take(self.below(24)).decode(errors="replace")

    def value(self) -> Any:
        """Returns a JSON value, or one that only Python's parser takes for JSON."""
        match self.below(4):
            case 0:
                return self.pick(_NUMBERS)
            case 1:
                return self.text()
        return copy.deepcopy(self.pick(_VALUES))

    def altered(self, base: Any) -> Any:
        """Returns a copy of JSON values with some of them replaced, removed, renamed or added, while bytes are left."""
        changed = copy.deepcopy(base)
        for _ in range(8):
            if not self:
                break
            changed = self._alter(changed)
        return changed

    def _alter(self, value: Any) -> Any:
        if not isinstance(value, dict | list) or not value:
            return self.value()
        key = self.pick(list(value)) if isinstance(value, dict) else self.below(len(value))
        match self.below(8):
            case 0:
                return self.value()
            case 1:
                del value[key]
            case 2:
                value[key] = self.value()
            case 3 if isinstance(value, dict):
                value[self.text()] = value.pop(key)
            case 3:
                value.append(value[key])
            case _:
                value[key] = self._alter(value[key])
        return value

    def json_of(self, base: Any) -> bytes:
        """Returns a JSON file: `base` altered, or the bytes that are left as they are."""
        if self.below(4) == 3:
            return self.rest()
        text = json.dumps(self.altered(base))
        # Some damage is not in the values but in the text.
        place = self.below(len(text) + 1) if self else len(text)
        return (text[:place] + self.text() + text[place:]).encode() if self else text.encode()
