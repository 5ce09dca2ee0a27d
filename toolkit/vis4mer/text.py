"""Text for people to read."""


def printable(text: str) -> str:
    """Escapes what a screen would act on instead of showing: control characters, bidi marks, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(message: str) -> str:
    """A library's message on one line of bounded length, to quote within an error of our own."""
    return " ".join(message.split())[:300]


def clock(seconds: float) -> str:
    """Time as ``m:ss`` or ``h:mm:ss``, to the nearest second."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or the exception's type name if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
