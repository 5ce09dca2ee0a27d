"""Facts from torchrun's environment variables, available before PyTorch is imported."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vis4mer.errors import Vis4merError

GRACE_SECONDS = 2
"""Time for the main process to report an error; as soon as any process ends, torchrun ends all of them."""


def is_main_process() -> bool:
    """Returns whether this process writes the files and reports to the user; True without torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def one_error_per_machine() -> Iterator[None]:
    """Lets only one process per machine report an error that all of them raise before they are connected.

    Raises:
        Vis4merError: The error of the block, in the first process of this machine.
        SystemExit: The block failed, in the other processes.
    """
    try:
        yield
    except Vis4merError:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        time.sleep(GRACE_SECONDS)
        raise SystemExit(1) from None
