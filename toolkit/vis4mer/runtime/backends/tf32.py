"""Convolutions of PyTorch in float32 as IEEE 754 defines it.

On NVIDIA GPUs, PyTorch computes float32 convolutions in TF32 by default, which rounds their operands to 10 bits of
mantissa. In the patch embedding alone, that moves an encoder's tokens by 2e-4 to 3e-4, beyond the tolerance of 1e-4
within which a float32 export must equal its model. Matrix products are in float32 by default.

Reference: PyTorch documentation, CUDA semantics, "TensorFloat-32 (TF32) on Ampere (and later) devices".
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_lock = threading.Lock()
_users = 0  # threads inside `ieee_convolutions`
_restore: Callable[[], None]

# Position among the arguments of aten::_convolution, to which tracing turns every convolution.
_ALLOW_TF32 = 12


@contextmanager
def ieee_convolutions() -> Iterator[None]:
    """Keeps TF32 out of convolutions that are launched in the block.

    PyTorch has one setting for the whole process, and reads it when a convolution is launched. So the setting is
    changed while at least one thread is in the block, and the user's own setting is back when the last one leaves.
    Meanwhile, convolutions of other threads are computed in float32 as well: slower, but never less exact. Only the
    older form of the setting, ``torch.backends.cudnn.allow_tf32``, cannot be read then: it cannot express the state,
    and PyTorch raises RuntimeError.
    """
    global _users, _restore
    with _lock:
        if _users == 0:
            _restore = _forbid_tf32()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _restore()


def _forbid_tf32() -> Callable[[], None]:
    """Forbids TF32 in convolutions, and returns the function that restores the setting exactly."""
    from torch import backends

    # Unless the user has chosen a precision for convolutions, they follow the setting of cuDNN as a whole, and that
    # follows the setting of all backends. Setting a precision for convolutions themselves would end that for good,
    # because no value stands for "not chosen". So it is only done where they turn out not to follow.
    cudnn, conv = backends.cudnn, backends.cudnn.conv  # type: ignore[attr-defined]
    general = cudnn.fp32_precision
    inherited = "none" if general == backends.fp32_precision else general  # type: ignore[attr-defined]
    cudnn.fp32_precision = "ieee"
    chosen = conv.fp32_precision
    if chosen == "tf32":
        conv.fp32_precision = "ieee"

    def restore() -> None:
        if chosen == "tf32":
            conv.fp32_precision = chosen
        cudnn.fp32_precision = inherited

    return restore


def forbid_tf32_in_trace(program: "torch.jit.ScriptModule") -> None:
    """Forbids TF32 in the convolutions of a loaded TorchScript program.

    A trace stores the setting of the process that made it as an argument of each convolution, so the settings of the
    process that runs it have no effect.

    Args:
        program: Frozen program, which has not been run yet.
    """
    graph: Any = program.graph
    for convolution in graph.findAllNodes("aten::_convolution"):
        with graph.insert_point_guard(convolution):
            convolution.replaceInput(_ALLOW_TF32, graph.insertConstant(False))
