"""Breaks and shortens lines of text to a width."""

import bisect
import unicodedata
from collections.abc import Callable

from vis4mer.text import shorten
from vis4mer.timeline.fonts import text_width

Measure = Callable[[str, float, bool], float]
"""A function from a text, its font size and whether it is bold to its width, in the unit of the size."""

# Width of the widest common system font, DejaVu Sans, relative to Noto Sans.
_WIDEST_FONT, _WIDEST_BOLD_FONT = 1.1, 1.19

# Breaking lines between words wastes a part of each.
_FILLED = 0.85


def estimated_width(text: str, size: float, bold: bool = False) -> float:
    """Returns a generous estimate of a text's width, because the fonts of whoever reads an HTML page are unknown."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    narrow = "".join(character for character in text if unicodedata.east_asian_width(character) not in "WF")
    return wide * size + (_WIDEST_BOLD_FONT if bold else _WIDEST_FONT) * text_width(narrow, size, bold)


def fit(text: str, width: float, size: float, measure: Measure, bold: bool = False) -> str:
    """Shortens text that is too wide, in its middle, because names often differ only at their end.

    Args:
        text: Text of one line.
        width: Largest width, in CSS pixels.
        size: Font size, in CSS pixels.
        measure: Width of texts.
        bold: Whether the text is bold.
    """
    return shorten(text, width, lambda line: measure(line, size, bold))


def wrap(text: str, width: float, size: float, measure: Measure, bold: bool = False) -> list[str]:
    """Breaks text into lines, between words where possible, and inside of words that are wider than a line.

    Args:
        text: Text without line breaks.
        width: Largest width of a line, in CSS pixels.
        size: Font size, in CSS pixels.
        measure: Width of texts.
        bold: Whether the text is bold.
    """
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if measure(joined, size, bold) <= width:
            lines[-1] = joined
            continue
        lines += _pieces(word, width, size, measure, bold)
    return [line for line in lines if line] or [""]


def wrap_name(text: str, width: float, size: float, measure: Measure, bold: bool = False) -> list[str]:
    """Breaks a name into at most two lines; one that is longer is shortened in its middle.

    Args:
        text: Name without line breaks.
        width: Largest width of a line, in CSS pixels.
        size: Font size, in CSS pixels.
        measure: Width of texts.
        bold: Whether the text is bold.
    """
    lines = wrap(text, width, size, measure, bold)
    if len(lines) <= 2:
        return lines
    return wrap(fit(text, 2 * _FILLED * width, size, measure, bold), width, size, measure, bold)[:2]


def _pieces(word: str, width: float, size: float, measure: Measure, bold: bool) -> list[str]:
    """Cuts a word into pieces of at most `width`, of one character at least."""
    pieces = []
    while word:
        lengths = range(1, len(word) + 1)
        fitting = bisect.bisect_right(lengths, width, key=lambda length: measure(word[:length], size, bold))
        pieces.append(word[: max(1, fitting)])
        word = word[max(1, fitting) :]
    return pieces
