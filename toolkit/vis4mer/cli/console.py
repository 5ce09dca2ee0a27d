"""Messages on stderr: one line each, without characters that could garble the terminal."""

import logging
import sys
from typing import TextIO

from vis4mer.text import printable

# Packages of this project, which log under their modules' names.
PACKAGES = ("vis4mer", "vis4mer_export", "vis4mer_kernels")


def say(level: str, message: str) -> None:
    """Prints ``vis4mer: <level>: <message>`` as one line on stderr, unless that is closed."""
    if sys.stderr is not None:
        print(f"vis4mer: {level}: {printable(message)}", file=sys.stderr, flush=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Returns whether a standard stream is a terminal; it is None if the process was started with it closed."""
    return stream is not None and stream.isatty()


class _MessageHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname.lower(), record.getMessage())


def show_log_messages(quiet: bool) -> None:
    """Shows the packages' warnings, such as a fallback and its reason, on stderr; with `quiet`, only their errors."""
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers = [_MessageHandler()]
        logger.setLevel(logging.ERROR if quiet else logging.WARNING)
