"""What the commands that run PyTorch models share."""

from typing import TYPE_CHECKING

from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError, MissingDependencyError

if TYPE_CHECKING:
    from torch import nn


def require_torch(purpose: str) -> None:
    """Refuses to go on without PyTorch and timm.

    Args:
        purpose: what they are needed for.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    try:
        import timm  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        rule = f"is needed for {purpose}; pip install 'vis4mer[train]'"
        raise MissingDependencyError(f"package={error.name!r}: {rule}") from None


def place(module: "nn.Module", processor: Device) -> None:
    """Moves a module to a device.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    try:
        module.to(str(processor))
    except (RuntimeError, AssertionError) as error:  # a CPU-only build of PyTorch asserts
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device={str(processor)!r}: PyTorch cannot use it ({reason}); use --device cpu") from None
