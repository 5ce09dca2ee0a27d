"""What reaches the terminal besides results: one-line messages on stderr, with nothing in them that could garble it."""

import logging
import sys

from vis4mer.text import printable


def say(level: str, message: str) -> None:
    """Prints ``vis4mer: <level>: <message>`` as one line on stderr, which may be closed."""
    if sys.stderr is not None:
        print(f"vis4mer: {level}: {printable(message)}", file=sys.stderr, flush=True)


class _MessageHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname.lower(), record.getMessage())


def show_log_messages(quiet: bool) -> None:
    """Shows the library's warnings, such as a fallback and its reason, on stderr; with `quiet` only its errors."""
    logger = logging.getLogger("vis4mer")
    logger.handlers = [_MessageHandler()]
    logger.setLevel(logging.ERROR if quiet else logging.WARNING)
