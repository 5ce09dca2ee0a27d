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


def shorten(text: str, fits: Callable[[str], bool]) -> str:
    """Cuts characters out of the middle of text that does not fit, because names often differ only at their end.

    Args:
        text: Text of one line.
        fits: Function from a text to whether there is room for it.

    Returns:
        `text` if it fits, or else its beginning, three dots and its end: as much as fits, three characters at least.
    """
    if fits(text):
        return text

    def shortened(keep: int) -> str:
        tail = keep // 3
        return f"{text[: keep - tail]}...{text[len(text) - tail :]}"

    lengths = range(4, len(text))
    n_fitting = bisect.bisect_left(lengths, True, key=lambda keep: not fits(shortened(keep)))
    return shortened(lengths[n_fitting - 1] if n_fitting else 3)


def clock(seconds: float) -> str:
    """Formats seconds as ``m:ss`` or ``h:mm:ss``, rounded to the nearest second."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def first_line(error: BaseException | str) -> str:
    """Returns the first line of an exception or its message, shortened as by `one_line`; the type's name if empty."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0]) if lines else type(error).__name__


def count(number: int, noun: str) -> str:
    """Returns a number with its noun: ``1 frame``, ``12 frames``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
