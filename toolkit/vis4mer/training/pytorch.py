"""What training, evaluation and extraction require of PyTorch; importing this module does not import it."""

from typing import TYPE_CHECKING

from vis4mer.devices.device import Device
from vis4mer.packages import require

if TYPE_CHECKING:
    from torch import nn


def require_torch(purpose: str) -> None:
    """Checks that PyTorch and timm are installed.

    Args:
        purpose: What they are needed for.

    Raises:
        MissingDependencyError: One of them is not installed.
    """
    require("torch", "timm", purpose=f"for {purpose}", extra="train")


def require_package(name: str, purpose: str) -> None:
    """Checks that a package of the extra ``train`` is installed.

    Args:
        name: Name that the package is imported by.
        purpose: What it is needed for.

    Raises:
        MissingDependencyError: It is not installed.
    """
    require(name, purpose=f"for {purpose}", extra="train")


def place(module: "nn.Module", device: Device) -> None:
    """Moves a module to a device.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    from vis4mer.models.placement import to_device

    to_device(module, str(device))
