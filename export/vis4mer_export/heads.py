"""Errors about the checkpoints of further heads."""

import contextlib
from collections.abc import Iterator

from vis4mer.errors import CheckpointError


@contextlib.contextmanager
def naming_head(name: str) -> Iterator[None]:
    """Puts a head's name before errors about its checkpoint, since an export may read several.

    Raises:
        CheckpointError: The block raised one.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError.of("head", name, str(error)) from None
