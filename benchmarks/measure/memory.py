"""Peak memory of one call in a process of its own, where nothing that ran before it counts."""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

# Blocks above this size are mapped separately and returned to the system when freed. Otherwise fragments of the C
# library's heap would count as well, which can take several times the memory in use. See mallopt(3).
_M_MMAP_THRESHOLD = -3
_MAPPED_BYTES = 1 << 20


def peak_bytes(prepare: Callable[..., Callable[[], object]], *arguments: Any, device: str = "cpu") -> int:
    """Measures the largest memory that a call holds at once beyond what is held before it: parameters and inputs.

    On a GPU, that is the memory in use by PyTorch's allocator. On a CPU, it is the resident set, whose high-water mark
    is cleared before the call. A first call, not counted, loads libraries and fills caches.

    Args:
        prepare: Function at the top level of its module, run in a new process. Returns the call to measure, which must
            not keep any memory afterwards.
        *arguments: Arguments of `prepare`.
        device: ``cpu`` or ``cuda``.

    Returns:
        Bytes.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, prepare, arguments, device, torch.get_num_threads()).result()


def free_bytes(device: str = "cpu") -> int:
    """Returns the bytes of the device's memory that are available without swapping."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return _entry(Path("/proc/meminfo"), "MemAvailable")


def _measure(
    prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...], device: str, threads: int
) -> int:
    torch.set_num_threads(threads)
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
    call = prepare(*arguments)
    call()
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - held
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the C library keeps could be reused without being seen
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark; see proc(5)
    status = Path("/proc/self/status")
    held = _entry(status, "VmRSS")
    call()
    return _entry(status, "VmHWM") - held


def _entry(path: Path, name: str) -> int:
    """Returns the bytes of an entry in one of Linux's tables, which are in KiB."""
    return 1024 * next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))
