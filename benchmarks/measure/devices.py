"""Inputs, waiting and memory on the device of a benchmark."""

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray

from vis4mer.devices.arrays import Array, DeviceArray
from vis4mer.devices.device import CPU, Device
from vis4mer.runtime.backends.base import Runner

T = TypeVar("T")


def device_of(kind: str) -> Device:
    """Returns the CPU, or the first GPU for ``cuda``."""
    return CPU if kind == "cpu" else Device(kind)


def place(array: NDArray[Any], device: Device) -> Array:
    """Returns the array itself for the CPU, or a complete copy in the memory of a GPU."""
    if device.kind == "cpu":
        return array
    tensor = torch.from_numpy(array).to(str(device))
    torch.cuda.synchronize(device.index)
    return DeviceArray.from_interface(tensor, device)


def waiting(call: Callable[[], T], device: Device) -> Callable[[], T]:
    """Returns `call` itself for the CPU; for a GPU, a call that ends when the GPU has done the work of all streams."""
    if device.kind == "cpu":
        return call

    def run() -> T:
        result = call()
        torch.cuda.synchronize(device.index)
        return result

    return run


def held_bytes(prepare: Callable[[], T], device: Device) -> tuple[T, int | None]:
    """Measures how much of a GPU's memory a call takes and does not give back.

    The free memory is what the driver reports, so the memory of every library counts. Their allocators keep what a run
    has needed: if `prepare` opens a graph and runs it once, the result is the peak of that run, weights included.

    Args:
        prepare: Call that returns whatever holds the memory.
        device: Device to measure.

    Returns:
        The call's result, and the bytes; None for the CPU.
    """
    if device.kind == "cpu":
        return prepare(), None
    gc.collect()
    torch.cuda.synchronize(device.index)
    torch.cuda.empty_cache()  # memory that PyTorch keeps would be reused without being seen
    before, _ = torch.cuda.mem_get_info(device.index)
    result = prepare()
    torch.cuda.synchronize(device.index)
    after, _ = torch.cuda.mem_get_info(device.index)
    return result, int(before - after)


def run_once(open_runner: Callable[[], Runner], batch: Array) -> Runner:
    """Opens a runner and runs it once, for `held_bytes`.

    Raises:
        BundleError: The graph cannot be loaded.
        DeviceError: The device failed.
    """
    runner = open_runner()
    runner(batch)
    return runner
