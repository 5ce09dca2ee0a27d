"""Loads the native ops. Without a library, PyTorch's own operators take their place; a broken library is an error."""

import functools
import logging
import os
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from vis4mer.errors import OpsError
from vis4mer.text import first_line
from vis4mer_kernels import build

Impl = Literal["auto", "reference", "native"]

# Environment variable that replaces "auto", as in VIS4MER_OPS=reference.
IMPL_VARIABLE = "VIS4MER_OPS"
_OLDEST_GPU = (8, 0)  # compute capability

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """The native ops of this machine.

    Attributes:
        devices: Kinds of device on which the ops run, of ``cpu`` and ``cuda``.
        reason: Path of the library, or the reason why there is none.
    """

    devices: tuple[str, ...]
    reason: str


@functools.cache
def library() -> Library:
    """Loads the library, once per process.

    Raises:
        OpsError: The library exists and does not load.
    """
    path = build.find()
    if path is None:
        return Library((), f"not built for this machine and PyTorch; {build.COMMAND}")
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        # Shapes and derivatives can be registered only for ops that the loaded library has defined.
        from vis4mer_kernels import autograd

        autograd.register()
    except (OSError, RuntimeError, AttributeError) as error:
        causes = "a library that it needs, or the PyTorch that it was built for, has changed"
        raise OpsError.of(
            "library", path, f"does not load ({first_line(error)}); {causes}", f"delete it and {build.COMMAND}"
        ) from None
    return Library(("cpu", "cuda") if _runs_on_gpus() else ("cpu",), str(path))


def _runs_on_gpus() -> bool:
    """Returns whether the library has CUDA code for every GPU of this machine."""
    # A library that was built without nvcc defines the ops, but implements them for the CPU only.
    if not torch._C._dispatch_has_kernel_for_dispatch_key("vis4mer::long_conv", "CUDA"):
        return False
    gpus = range(torch.cuda.device_count())
    return bool(gpus) and all(torch.cuda.get_device_capability(gpu) >= _OLDEST_GPU for gpu in gpus)


# torch.compile evaluates this once, while it traces: loading, caches and warnings stay out of its graph.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def native(impl: Impl, device: str) -> bool:
    """Returns whether to run the native ops.

    Args:
        impl: Requested implementation. ``auto`` means native ops where they are built; where they are not, a warning
            is logged once.
        device: Kind of device of the inputs.

    Raises:
        OpsError: ``native`` is requested and absent, or the library is broken.
    """
    if impl == "auto":
        impl = _meaning_of_auto()
    if impl == "reference":
        return False
    if device in library().devices:
        return True
    reason = library().reason
    if library().devices:
        reason = f"{reason} has no code for the GPUs of this machine; they need compute capability 8.0 or newer"
    if impl == "native":
        raise OpsError.of("impl", impl, f"there are no native ops for {device}: {reason}")
    _warn_once(device, reason)
    return False


def _meaning_of_auto() -> Impl:
    value = os.environ.get(IMPL_VARIABLE, "auto")
    for impl in get_args(Impl):
        if value == impl:
            return impl  # type: ignore[no-any-return]
    raise OpsError.of(IMPL_VARIABLE, value, f"must be one of {', '.join(get_args(Impl))}")


@functools.cache
def _warn_once(device: str, reason: str) -> None:
    logger.warning("no native ops for %s, PyTorch's operators are used instead: %s", device, reason)
