"""Where a model runs: what was asked for, what this machine has, and why one was chosen."""

import ctypes
import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vis4mer.errors import ConfigError, DeviceError

_COMPUTE_CAPABILITY = (75, 76)  # CUdevice_attribute: major and minor
_BF16_CAPABILITY = (8, 0)
_BF16_CPU_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # Intel, Intel and AMD, Arm

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
    if problem := probe_driver().problem:
        return build(CPU), CPU, problem
    gpu = Device("cuda")
    try:
        return build(gpu), gpu, "the first GPU"
    except DeviceError as error:
        logger.warning("running on the CPU: %s", error)
        return build(CPU), CPU, str(error)


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver offers to this process.

    Attributes:
        cuda_version: newest CUDA version it can run, such as ``13.0``; None without a driver.
        gpus: names of the GPUs, in the driver's order.
        problem: why there are no GPUs; empty if there are.
    """

    cuda_version: str | None
    gpus: tuple[str, ...]
    problem: str


def _require(device: Device) -> None:
    driver = probe_driver()
    if device.kind == "cpu" or device.index < len(driver.gpus):
        return
    have = driver.problem or f"this machine's GPUs are cuda:0 to cuda:{len(driver.gpus) - 1}"
    raise DeviceError(f"device={str(device)!r}: {have}; use --device cpu or auto")


@functools.cache
def probe_driver() -> Driver:
    """Asks the driver's own library, which needs no CUDA toolkit, so that the base install can tell what it runs on."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver(None, (), "there is no NVIDIA driver (libcuda.so.1)")
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    if (status := library.cuInit(0)) or (status := library.cuDeviceGetCount(ctypes.byref(number))):
        return Driver(version, (), f"the NVIDIA driver offers no GPU (CUDA error {status})")
    name = ctypes.create_string_buffer(256)
    gpus = []
    for index in range(number.value):
        library.cuDeviceGetName(name, len(name), index)  # device handles are the indices
        gpus.append(name.value.decode(errors="replace"))
    return Driver(version, tuple(gpus), "" if gpus else "the NVIDIA driver offers no GPU")


@functools.cache
def compute_capability(device: Device) -> tuple[int, int]:
    """Major and minor of a GPU that `probe_driver` has found."""
    library, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    found = []
    for attribute in _COMPUTE_CAPABILITY:
        library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device.index)
        found.append(number.value)
    return found[0], found[1]


def bf16_units(device: Device) -> str | None:
    """What multiplies matrices faster in bfloat16 than in float32 on a device; None where nothing does."""
    if device.kind == "cuda":
        capability = compute_capability(device)
        return "compute capability {}.{}".format(*capability) if capability >= _BF16_CAPABILITY else None
    flags = _cpu_flags()
    return next((flag for flag in _BF16_CPU_FLAGS if flag in flags), None)


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    named = {name.strip(): flags for name, _, flags in (line.partition(":") for line in lines)}
    return frozenset((named.get("flags") or named.get("Features") or "").split())
