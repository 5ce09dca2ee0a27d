"""Counts and lists of names in messages."""

from collections.abc import Sequence

_SHOWN = 5


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, whose plural ends in s: ``1 movie``, ``2 movies``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(names: Sequence[str]) -> str:
    """Joins names by commas; the sixth and all further ones are only counted."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
