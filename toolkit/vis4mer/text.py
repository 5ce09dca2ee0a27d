"""Text for people to read: escaped, shortened, formatted."""

import bisect
from collections.abc import Callable

_QUOTED_CHARACTERS = 300


def printable(text: str) -> str:
    """Escapes characters that a terminal acts on instead of showing: controls, bidi marks, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(message: str) -> str:
    """Returns a library's message on one line of at most 300 characters, to quote in an error of this project."""
    line = " ".join(message.split())
    return line if len(line) <= _QUOTED_CHARACTERS else f"{line[: _QUOTED_CHARACTERS - 4]} ..."


def shorten(text: str, width: float, measure: Callable[[str], float] = len) -> str:
    """Shortens text that is too wide, in its middle, because names often differ only at their end.

    Args:
        text: Text of one line.
        width: Largest width. Three characters of the text remain even if they are wider.
        measure: Function that returns a text's width; its number of characters by default.
    """
    if measure(text) <= width:
        return text

    def with_gap(kept: int) -> str:
        tail = kept // 3
        return f"{text[: kept - tail]}...{text[len(text) - tail :]}"

    numbers = range(4, len(text))
    fitting = bisect.bisect_right(numbers, width, key=lambda kept: measure(with_gap(kept)))
    return with_gap(numbers[fitting - 1] if fitting else 3)


def clock(seconds: float) -> str:
    """Formats seconds as ``m:ss`` or ``h:mm:ss``, rounded to the nearest second."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, shortened as by `one_line`; its type's name if it has none."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0]) if lines else type(error).__name__


def count(number: int, noun: str) -> str:
    """Returns a number with its noun: ``1 frame``, ``12 frames``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
