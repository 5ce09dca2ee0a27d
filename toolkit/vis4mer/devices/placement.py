"""Moves PyTorch modules between devices."""

from typing import TYPE_CHECKING

from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError
from vis4mer.text import one_line

if TYPE_CHECKING:
    from torch import nn


def place(module: "nn.Module", device: Device) -> None:
    """Moves a module to a device.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    try:
        module.to(str(device))
    except (RuntimeError, AssertionError) as error:  # a build of PyTorch without CUDA fails an assertion
        rule = f"PyTorch cannot use it: {one_line(str(error))}"
        raise DeviceError.of("device", str(device), rule, "use --device cpu or auto") from None
