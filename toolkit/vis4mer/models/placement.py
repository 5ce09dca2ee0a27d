"""Placement of modules on devices."""

from typing import TypeVar

import torch
from torch import nn

from vis4mer.devices.failures import remedy
from vis4mer.errors import DeviceError
from vis4mer.text import first_line

_Module = TypeVar("_Module", bound=nn.Module)


def to_device(module: _Module, device: str) -> _Module:
    """Moves a module to a device, in place.

    Args:
        module: Module to move.
        device: PyTorch device: ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The same module.

    Raises:
        DeviceError: PyTorch does not have the device, or cannot use it.
    """
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:  # a CPU-only build of PyTorch raises AssertionError for cuda
        raise _unusable(device, error) from None


def require_device(device: str) -> None:
    """Checks that PyTorch can use a device, by writing to its memory.

    Raises:
        DeviceError: PyTorch does not have the device, or cannot use it.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _unusable(device, error) from None


def _unusable(device: str, error: BaseException) -> DeviceError:
    rule = f"PyTorch cannot use it ({first_line(error)})"
    return DeviceError.of("device", device, rule, remedy(str(error)) or "use --device cpu")
