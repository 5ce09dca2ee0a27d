"""Finds the native ops: absent, PyTorch's own operators do their work; broken, it is an error."""

import functools
import logging
import os
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from vis4mer.errors import OpsError
from vis4mer_kernels import build

Impl = Literal["auto", "reference", "native"]

# Overrides what "auto" means, as in VIS4MER_OPS=reference.
IMPL_VARIABLE = "VIS4MER_OPS"
_BUILD = "python -m vis4mer_kernels.build"

logger = logging.getLogger("vis4mer.ops")  # a child of the one that the command line shows


@dataclass(frozen=True)
class Library:
    """The native ops of this machine.

    Attributes:
        devices: kinds of device that they run on, of ``cpu`` and ``cuda``.
        reason: the library's path, or why there is none.
    """

    devices: tuple[str, ...]
    reason: str


@functools.cache
def library() -> Library:
    """Loads the library, once per process.

    Raises:
        OpsError: it is there and does not load.
    """
    path = build.library_path()
    if not path.exists():
        return Library((), f"not built for this machine and PyTorch; {_BUILD}")
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        from vis4mer_kernels import autograd

        autograd.register()
    except (OSError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        causes = "it was damaged, or built by a compiler or for a PyTorch that has changed since"
        raise OpsError(f"library={str(path)!r}: does not load ({reason}); {causes}; delete it and {_BUILD}") from None
    devices = tuple(kind for kind in ("cpu", "cuda") if _has_kernels(kind))
    return Library(devices, str(path))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def native(impl: Impl, device: str) -> bool:
    """Whether to take the native ops.

    Args:
        impl: ``native`` or ``reference`` decide; ``auto`` takes native ops where there are any, and says once where
            there are none.
        device: kind of device of the inputs.

    Raises:
        OpsError: ``native`` was asked for and is not there, or the library is broken.
    """
    if impl == "auto":
        impl = _meaning_of_auto()
    if impl == "reference":
        return False
    if device in library().devices:
        return True
    reason = library().reason if not library().devices else f"{library().reason} was built without {device}"
    if impl == "native":
        raise OpsError(f"impl='native': there are no native ops for {device}: {reason}")
    _report(device, reason)
    return False


def _meaning_of_auto() -> Impl:
    asked = os.environ.get(IMPL_VARIABLE, "auto")
    for impl in get_args(Impl):
        if asked == impl:
            return impl  # type: ignore[no-any-return]
    raise OpsError(f"{IMPL_VARIABLE}={asked!r}: must be one of {', '.join(get_args(Impl))}")


def _has_kernels(device: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("vis4mer::long_conv", device.upper())


@functools.cache
def _report(device: str, reason: str) -> None:
    logger.warning("no native ops for %s, PyTorch's operators serve instead: %s", device, reason)
