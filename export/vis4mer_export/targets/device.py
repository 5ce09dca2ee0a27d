"""The option that chooses the device to build for."""

from vis4mer.devices.device import CPU, Device, parse_device
from vis4mer.errors import ConfigError
from vis4mer_export.targets.base import TargetOption

FIRST_GPU = Device("cuda")


def _parse(text: str) -> Device | None:
    if not text:
        return None
    try:
        device = parse_device(text)
    except ConfigError:
        device = "auto"
    if device == "auto":
        raise ConfigError.of("device", text, "must be cpu, cuda or cuda:N")
    return FIRST_GPU if device == "cuda" else device


DEVICE = TargetOption(
    "device",
    "cpu|cuda[:N]",
    "",
    "Device to build for and to compare on: cpu or cuda with pt2, by default cpu; a GPU with trt and trt-rtx, by "
    "default the first.",
    _parse,
)


def require_gpu(device: Device | None, format: str) -> Device:
    """Returns the GPU that an engine is built for or compared on.

    Args:
        device: Value of `DEVICE`.
        format: Name of the target, for the error.

    Raises:
        ConfigError: The device is not a GPU.
    """
    if device == CPU:
        raise ConfigError.of("device", str(device), f"format {format} needs a GPU", "use cuda or cuda:N")
    return device or FIRST_GPU
