"""Text for people to read: escaped, shortened, formatted."""

_QUOTED_CHARACTERS = 300


def printable(text: str) -> str:
    """Escapes characters that a terminal acts on instead of showing: controls, bidi marks, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(message: str) -> str:
    """Returns a library's message on one line of at most 300 characters, to quote in an error of this project."""
    line = " ".join(message.split())
    return line if len(line) <= _QUOTED_CHARACTERS else f"{line[: _QUOTED_CHARACTERS - 4]} ..."


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
