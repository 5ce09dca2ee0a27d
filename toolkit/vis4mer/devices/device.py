"""Processors that run a model: what the user requests, what this machine has, and which one is used."""

import ctypes
import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from vis4mer.errors import ConfigError, DeviceError

_COMPUTE_CAPABILITY = (75, 76)  # CUdevice_attribute: major and minor
# Ampere is the first generation whose tensor cores multiply bfloat16.
_BF16_CAPABILITY = (8, 0)
_BF16_CPU_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # Intel, Intel and AMD, Arm
_USE_ANOTHER = "use --device cpu or auto"

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A processor that can run a graph.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        index: Number of the GPU in the driver's order; 0 for the CPU.
    """

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device("cpu")

# A user's choice: one device, any GPU, or the first device that works. "cuda" differs from the first GPU where several
# processes share the work, and each uses a GPU of its own.
RequestedDevice = Device | Literal["auto", "cuda"]


def parse_device(requested: str | Device) -> RequestedDevice:
    """Reads ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; returns a `Device` as it is.

    Raises:
        ConfigError: The name is none of these.
    """
    if isinstance(requested, Device):
        return requested
    match requested:
        case "auto" | "cuda":
            return requested
        case "cpu":
            return CPU
    if found := re.fullmatch(r"cuda:([0-9]{1,3})", requested):
        return Device("cuda", int(found[1]))
    raise ConfigError.of("device", requested, "must be auto, cpu, cuda or cuda:N")


class Placed(NamedTuple, Generic[T]):
    """The result of `on_device`.

    Attributes:
        value: Whatever was built.
        device: Device it was built on.
        reason: Why that device was used.
    """

    value: T
    device: Device
    reason: str


def on_device(requested: str | Device, build: Callable[[Device], T]) -> Placed[T]:
    """Builds something on the requested device.

    Args:
        requested: Device, or its name for `parse_device`. ``cuda`` is the first GPU; ``auto`` tries it and falls back
            to the CPU.
        build: Builds the value on the device that it is called with; raises DeviceError if that device cannot run it.

    Raises:
        ConfigError: The name is not a device's.
        DeviceError: The requested device is absent or unusable; for ``auto``, neither the GPU nor the CPU is usable.
    """
    device, gpu = parse_device(requested), Device("cuda")
    if device != "auto":
        # An explicit request never falls back to the CPU, where the same work could take far longer without notice.
        device = gpu if device == "cuda" else device
        _require(device)
        return Placed(build(device), device, "requested")
    if problem := probe_driver().problem:
        return Placed(_on_cpu(build, problem), CPU, problem)
    try:
        # A GPU that the driver lists may still be unusable here, for lack of memory or of CUDA in the backend. Other
        # errors, such as a damaged file, would recur on the CPU, so only DeviceError leads there.
        return Placed(build(gpu), gpu, "the first GPU")
    except DeviceError as error:
        problem = str(error)
    # Outside the handler: inside it, the traceback would keep whatever the attempt has left in the GPU's memory.
    value = _on_cpu(build, problem)
    logger.warning("running on the CPU: %s", problem)
    return Placed(value, CPU, problem)


def _on_cpu(build: Callable[[Device], T], problem: str) -> T:
    """Builds on the CPU what `problem` keeps from the GPU; an error names both, because either may be the one to solve.

    Engines of TensorRT, for example, cannot run on a CPU.
    """
    try:
        return build(CPU)
    except DeviceError as error:
        raise DeviceError.of("device", "auto", f"neither the GPU nor the CPU can be used: {problem}; {error}") from None


def _require(device: Device) -> None:
    """Raises DeviceError unless this machine has the device."""
    driver = probe_driver()
    if device.kind == "cpu" or device.index < len(driver.gpus):
        return
    rule = driver.problem or f"this machine's GPUs are cuda:0 to cuda:{len(driver.gpus) - 1}"
    raise DeviceError.of("device", str(device), rule, _USE_ANOTHER)


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver offers to this process.

    Attributes:
        cuda_version: Newest CUDA version that the driver runs, such as ``13.0``; None without a driver.
        gpus: Names of the GPUs, in the driver's order.
        problem: Why there are no GPUs; empty if there are some.
    """

    cuda_version: str | None
    gpus: tuple[str, ...]
    problem: str


@functools.cache
def probe_driver() -> Driver:
    """Queries the driver's own library.

    Every machine with a GPU has that library, so the base install finds GPUs without a CUDA toolkit or PyTorch.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver(None, (), "there is no NVIDIA driver (libcuda.so.1)")
    number = ctypes.c_int()
    # This call needs no initialisation, so the version is known even where no GPU can be used. The driver encodes it as
    # 1000 * major + 10 * minor.
    library.cuDriverGetVersion(ctypes.byref(number))
    major, minor = number.value // 1000, number.value % 1000 // 10
    version = f"{major}.{minor}"
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
    """Returns the major and minor compute capability of a GPU that `probe_driver` has found."""
    library, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    found = []
    # The calls succeed because `probe_driver` has initialised the driver, which stays initialised in this process.
    for attribute in _COMPUTE_CAPABILITY:
        library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device.index)
        found.append(number.value)
    return found[0], found[1]


def bf16_units(device: Device) -> str | None:
    """Returns the name of the units that multiply bfloat16 matrices faster than float32 ones; None without any."""
    if device.kind == "cuda":
        major, minor = compute_capability(device)
        return f"compute capability {major}.{minor}" if (major, minor) >= _BF16_CAPABILITY else None
    flags = _cpu_flags()
    return next((flag for flag in _BF16_CPU_FLAGS if flag in flags), None)


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """Returns the features in the last processor's entry of /proc/cpuinfo; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    fields = (line.partition(":") for line in lines)
    values = {name.strip(): value for name, _, value in fields}
    x86, arm = values.get("flags"), values.get("Features")
    return frozenset((x86 or arm or "").split())
