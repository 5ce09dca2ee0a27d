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
_OLDEST_GPU = (8, 0)  # compute capability

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
    path = build.find()
    if path is None:
        return Library((), f"not built for this machine and PyTorch; {build.COMMAND}")
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        from vis4mer_kernels import autograd

        autograd.register()
    except (OSError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        causes = "a library it needs, or the PyTorch it was built for, has changed since"
        raise OpsError(
            f"library={str(path)!r}: does not load ({reason}); {causes}; delete it and {build.COMMAND}"
        ) from None
    return Library(("cpu", "cuda") if _runs_on_gpus() else ("cpu",), str(path))


def _runs_on_gpus() -> bool:
    """Whether the library has CUDA code, and every GPU here is of a generation that it was compiled for."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("vis4mer::long_conv", "CUDA"):
        return False
    gpus = range(torch.cuda.device_count())
    return bool(gpus) and all(torch.cuda.get_device_capability(gpu) >= _OLDEST_GPU for gpu in gpus)


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
    reason = library().reason
    if library().devices:
        reason = f"{reason} holds none for the GPUs here, which must be of compute capability 8.0 or newer"
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


@functools.cache
def _report(device: str, reason: str) -> None:
    logger.warning("no native ops for %s, PyTorch's operators serve instead: %s", device, reason)
