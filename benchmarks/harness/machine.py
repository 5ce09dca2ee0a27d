"""The machine and the packages behind measured figures."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "onnxruntime-gpu", "onnxruntime", "av",
    "tensorrt", "tensorrt-rtx", "nvidia-dali-cuda120", "nvidia-dali-cuda130",
)  # fmt: skip

# Those that decide which matrix product, convolution or FFT a library picks, as Linux names them on x86 and on ARM.
INSTRUCTION_SETS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "asimd", "asimddp", "fphp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip

_CPUINFO = Path("/proc/cpuinfo")


def machine(gpu: str | None = None) -> dict[str, Any]:
    """Describes the machine: processor, its instruction sets, threads, and the versions of Python and packages.

    Args:
        gpu: Name of the GPU that the figures were measured on, if any.
    """
    table = _cpuinfo()
    flags = set(table.get("flags", table.get("Features", "")).split())
    facts = {
        "cpu": table.get("model name", platform.processor()),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "threads": os.cpu_count(),
        "python": platform.python_version(),
        **_versions(),
    }
    return facts if gpu is None else {**facts, "gpu": gpu, **_driver()}


def _driver() -> dict[str, str]:
    """Returns the NVIDIA driver's version and the first GPU's memory and power limit; empty without nvidia-smi."""
    query = "--query-gpu=driver_version,memory.total,power.limit"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.partition("\n")[0].split(",")
    return dict(zip(("driver", "gpu_memory", "gpu_power_limit"), map(str.strip, values), strict=True))


def _versions() -> dict[str, str]:
    """Returns the versions of those of `PACKAGES` that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _cpuinfo() -> dict[str, str]:
    """Returns what Linux reports about the first processor; empty on other systems."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return {}
    entries = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in entries}
