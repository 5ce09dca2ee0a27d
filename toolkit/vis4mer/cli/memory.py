"""Memory that runs out, which libraries report in several ways, as an error in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from vis4mer.errors import VideoError, Vis4merError

# Texts of the RuntimeErrors that Python, PyTorch, C++ and oneDNN raise. A thread needs memory for its stack.
_TEXTS = ("can't start new thread", "can't allocate memory", "bad_alloc", "could not create a primitive")

_REMEDY = "free some, or raise the process's limits (ulimit -v, ulimit -u)"


@contextmanager
def memory_errors(video: str | None = None) -> Iterator[None]:
    """Reports that memory, or threads, ran out as an error of this project.

    Args:
        video: Movie that the block classifies, for the message; None for a whole command.

    Raises:
        VideoError: They ran out while the block classified `video`.
        Vis4merError: They ran out in a block without a movie.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, Vis4merError) or not _is_exhaustion(error):
            raise
        rule = "too little is left for this command"
        if video is None:
            raise Vis4merError(f"memory: {rule}; {_REMEDY}") from None
        raise VideoError.of("video", video, "too little memory is left to classify it", _REMEDY) from None


def _is_exhaustion(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return any(text in str(error) for text in _TEXTS)
