"""What training, evaluation and extraction require of PyTorch; importing this module does not import it."""

import importlib
from typing import TYPE_CHECKING

from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError, MissingDependencyError
from vis4mer.text import first_line

if TYPE_CHECKING:
    from torch import nn


def require_torch(purpose: str) -> None:
    """Checks that PyTorch and timm are installed.

    Args:
        purpose: What they are needed for.

    Raises:
        MissingDependencyError: One of them is not installed.
    """
    for package in ("torch", "timm"):
        require_package(package, purpose)


def require_package(name: str, purpose: str) -> None:
    """Checks that a package of the extra ``train`` is installed.

    Args:
        name: Name that the package is imported by.
        purpose: What it is needed for.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        importlib.import_module(name)
    except ImportError as error:
        rule = f"is needed for {purpose}"
        raise MissingDependencyError.of("package", error.name or name, rule, "pip install 'vis4mer[train]'") from None


def place(module: "nn.Module", device: Device) -> None:
    """Moves a module to a device.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    try:
        module.to(str(device))
    except (RuntimeError, AssertionError) as error:  # A PyTorch without CUDA raises AssertionError.
        rule = f"PyTorch cannot use it ({first_line(error)})"
        raise DeviceError.of("device", str(device), rule, "use the device cpu") from None
