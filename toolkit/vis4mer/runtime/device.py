"""Where a model runs: what was asked for, what this machine has, and why one was chosen."""

import ctypes
import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vis4mer.errors import ConfigError, DeviceError

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A processor that can run a graph.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        index: of the GPU, in the driver's order; 0 for the CPU.
    """

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device("cpu")


def parse_device(name: str) -> Device | None:
    """Reads ``cpu``, ``cuda`` or ``cuda:N``; None stands for ``auto``.

    Raises:
        ConfigError: the name is none of these.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)|cuda:([0-9]{1,3})", name)
    if match is None:
        raise ConfigError(f"device={name!r}: must be auto, cpu, cuda or cuda:N")
    if match[2]:
        return Device("cuda", int(match[2]))
    return None if name == "auto" else Device(name)


def on_device(name: str, build: Callable[[Device], T]) -> tuple[T, Device, str]:
    """Builds something on the device called `name`; ``auto`` tries the first GPU and then the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        build: raises DeviceError if the device cannot run what it builds.

    Returns:
        What was built, the device it was built on, and why that device.

    Raises:
        ConfigError: the name is none of these.
        DeviceError: the asked device is absent or unusable.
    """
    device = parse_device(name)
    if device is not None:
        _require(device)
        return build(device), device, "asked for"
    if not gpu_names():
        return build(CPU), CPU, no_gpu_reason()
    gpu = Device("cuda")
    try:
        return build(gpu), gpu, "the first GPU"
    except DeviceError as error:
        logger.warning("running on the CPU: %s", error)
        return build(CPU), CPU, str(error)


def gpu_names() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that the driver offers to this process, in its order; empty if there are none."""
    return _probe_driver()[0]


def no_gpu_reason() -> str:
    """Why `gpu_names` is empty, or an empty string if it is not."""
    return _probe_driver()[1]


def _require(device: Device) -> None:
    if device.kind == "cpu" or device.index < len(gpu_names()):
        return
    have = no_gpu_reason() or f"this machine's GPUs are cuda:0 to cuda:{len(gpu_names()) - 1}"
    raise DeviceError(f"device={str(device)!r}: {have}; use --device cpu or auto")


@functools.cache
def _probe_driver() -> tuple[tuple[str, ...], str]:
    """Asks the driver's own library, which needs no CUDA toolkit, so that the base install can tell what it runs on."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (), "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int()
    if (status := driver.cuInit(0)) or (status := driver.cuDeviceGetCount(ctypes.byref(count))):
        return (), f"the NVIDIA driver offers no GPU (CUDA error {status})"
    name = ctypes.create_string_buffer(256)
    names = []
    for index in range(count.value):
        driver.cuDeviceGetName(name, len(name), index)  # device handles are the indices
        names.append(name.value.decode(errors="replace"))
    return tuple(names), "" if names else "the NVIDIA driver offers no GPU"
