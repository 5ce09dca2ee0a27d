import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from vis4mer.cli.console import PACKAGES
from vis4mer_kernels import build


def pytest_sessionstart() -> None:
    """Prepares the process for the tests: SIGINT as in a foreground shell, the native ops built.

    A script in the background of a non-interactive shell inherits an ignored SIGINT, and so would every process that a
    test interrupts with it. A handler, unlike an ignored signal, is not inherited across exec.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if build.compiler() is not None:
        build.build()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` where there is no NVIDIA GPU; VIS4MER_REQUIRE_GPU=1 lets them fail instead."""
    if Path("/dev/nvidiactl").exists() or os.environ.get("VIS4MER_REQUIRE_GPU") == "1":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


@pytest.fixture(autouse=True)
def _same_logger() -> Iterator[None]:
    """The command line sets the packages' loggers up for the terminal; the next test must not inherit that."""
    loggers = [logging.getLogger(package) for package in PACKAGES]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)  # which also forgets what loggers below have cached
