"""Messages on stderr: one line each, without characters that could garble the terminal."""

import logging
import re
import sys
import warnings
from collections.abc import Iterable
from typing import TextIO

from vis4mer.text import printable

# Packages of this project, which log under their modules' names.
PACKAGES = ("vis4mer", "vis4mer_export", "vis4mer_kernels")

# Matches the names of arguments in messages of the library, and what they are called on the command line; both concern
# the command that runs.
_argument: re.Pattern[str] | None = None
_options: dict[str, str] = {}


def say(level: str, message: str) -> None:
    """Prints ``vis4mer: <level>: <message>`` as one line on stderr, unless that is closed."""
    if sys.stderr is not None:
        print(f"vis4mer: {level}: {printable(with_options(message))}", file=sys.stderr, flush=True)


def name_options(options: Iterable[str]) -> None:
    """Makes messages name a command's options instead of the library's arguments: ``--batch-size=0``.

    Args:
        options: The command's long options, such as ``--batch-size``.
    """
    global _argument
    _options.clear()
    _options.update({option.removeprefix("--").replace("-", "_"): option for option in options})
    names = "|".join(map(re.escape, _options))
    # Where an error's message has names: at its start, and in its remedy. Elsewhere the text may be a user's.
    _argument = re.compile(rf"(^|\b(?:use|pass|set|lower|raise) )({names})(?==)") if names else None


def with_options(message: str) -> str:
    """Returns a message of the library with the command's options in place of the library's arguments."""
    if _argument is None:
        return message
    return _argument.sub(lambda found: found[1] + _options[found[2]], message)


def is_terminal(stream: TextIO | None) -> bool:
    """Returns whether a standard stream is a terminal; it is None if the process was started with it closed."""
    return stream is not None and stream.isatty()


class _MessageHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname.lower(), record.getMessage())


def show_log_messages(quiet: bool) -> None:
    """Shows the packages' warnings, such as a fallback and its reason, on stderr; with `quiet`, only their errors.

    Warnings of other packages are about code, not about the user's data, and are not shown unless Python is asked for
    them with ``-W`` or ``PYTHONWARNINGS``.
    """
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers = [_MessageHandler()]
        logger.setLevel(logging.ERROR if quiet else logging.WARNING)
    if not sys.warnoptions:
        warnings.simplefilter("ignore", append=True)  # filters that a program or a test has set come first
    # PyTorch logs "No CUDA runtime is found" when it imports this module on a machine with a toolkit but no GPU. Its
    # logger's level has to be set by name, because importing PyTorch resets that of the logger above.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
