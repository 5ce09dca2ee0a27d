"""Published weights from the Hugging Face hub or from torchvision's server; without a network, from their caches."""

import contextlib
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub import constants, get_session

from vis4mer.errors import CheckpointError
from vis4mer.text import first_line

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_ANSWER_SECONDS = 5.0


def from_hugging_face(name: str, load: Callable[[], _T]) -> _T:
    """Loads weights that huggingface_hub downloads, once; later calls read its cache.

    Without a network, huggingface_hub repeats each of its requests for half a minute before it reads the cache. Here
    one request decides whether it tries at all.

    Args:
        name: Name of the model.
        load: Function that downloads and loads the weights.

    Raises:
        CheckpointError: The weights are not in the cache and cannot be downloaded.
    """
    unreachable = _reason(lambda: get_session().head(constants.ENDPOINT, timeout=_ANSWER_SECONDS).status_code)
    source = f"the Hugging Face hub ({constants.ENDPOINT})"
    if unreachable is None:
        logger.info("downloading the weights of %s from %s, unless they are on this machine", name, source)
        return _loaded(name, source, load)
    with _offline():
        return _loaded(name, source, load, unreachable)


def from_torchvision(name: str, url: str, load: Callable[[], _T]) -> _T:
    """Loads weights that torchvision downloads, once; later calls read PyTorch's cache.

    Args:
        name: Name of the model.
        url: Address of the weights.
        load: Function that downloads and loads the weights.

    Raises:
        CheckpointError: The weights are not in the cache and cannot be downloaded.
    """
    source, unreachable = f"torchvision ({url})", None
    if not Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]).exists():
        # torchvision sets no time limit for its own request.
        unreachable = _reason(lambda: _status(url))
        if unreachable is not None:
            raise _unavailable(name, source, unreachable)
        logger.info("downloading the weights of %s from %s", name, source)
    # torchvision announces its download on stdout, which is reserved for results.
    with contextlib.redirect_stdout(sys.stderr):
        return _loaded(name, source, load)


def _loaded(name: str, source: str, load: Callable[[], _T], unreachable: str | None = None) -> _T:
    try:
        return load()
    except OSError as error:
        raise _unavailable(name, source, unreachable or first_line(error)) from None


def _unavailable(name: str, source: str, reason: str) -> CheckpointError:
    rule = f"its weights are not on this machine and cannot be downloaded from {source}: {reason}"
    return CheckpointError.of("encoder", name, rule, "use --encoder-weights FILE, or random for a trial without them")


def _status(url: str) -> int:
    """Returns the status of a server's response to a HEAD request; urllib raises an exception for 400 and above."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_SECONDS) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _reason(request: Callable[[], int]) -> str | None:
    """Returns why a server does not answer a request with its status; None if it does."""
    try:
        status = request()
    # The exceptions depend on the HTTP library, which differs between the versions of huggingface_hub.
    except Exception as error:
        return first_line(error)
    # Any other status comes from a server that works, and the actual request shows whether it has the weights.
    return f"HTTP status {status}" if status >= 500 else None


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Makes huggingface_hub read its cache only, as the environment variable HF_HUB_OFFLINE=1 does at its import."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
