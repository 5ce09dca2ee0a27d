"""Packages that use a GPU: which CUDA and cuDNN they are built for, and whether this machine has it.

Everything is read from the packages' files, because importing them takes seconds, and fails where something is missing.
"""

import ctypes
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from vis4mer.devices.device import Driver
from vis4mer.packages import install_command

# First driver release for each major version of CUDA. A driver runs programs built for any minor version of its own
# major version, and for older versions.
# Reference: NVIDIA, CUDA Compatibility, "Minor Version Compatibility".
_FIRST_RELEASES = {11: 450, 12: 525, 13: 580}

_TORCH, _ONNXRUNTIME = "torch", "onnxruntime-gpu"
# Files that state the version of CUDA, and the line that does. PyTorch's is None in builds for the CPU.
_BUILD_FILES = {
    _TORCH: ("torch/version.py", r"^cuda\b.*= '([0-9.]+)'"),
    _ONNXRUNTIME: ("onnxruntime/capi/build_and_package_info.py", r"^cuda_version = '([0-9.]+)'"),
}
# Packages whose names, or whose dependencies' names, end with the version of CUDA.
_NAMED = ("nvidia-dali-cuda110", "nvidia-dali-cuda120", "nvidia-dali-cuda130")
_NAMED_BY_DEPENDENCY = ("tensorrt", "tensorrt-rtx")

_PROC_VERSION = Path("/proc/driver/nvidia/version")
# In the folder of packages, as the package nvidia-cudnn-cu13 installs it; ONNX Runtime looks there first.
_PACKAGED_CUDNN = "nvidia/cudnn/lib/libcudnn.so.9"


class GpuPackage(NamedTuple):
    """An installed package that can use a GPU.

    Attributes:
        name: Name of the distribution.
        version: Its version.
        cuda: Version of CUDA that it is built for, such as ``13.0``; None if it is built without.
    """

    name: str
    version: str
    cuda: str | None


class Cudnn(NamedTuple):
    """The cuDNN library that ONNX Runtime loads.

    Attributes:
        version: Its version, such as ``9.24.0``.
        cuda: Version of CUDA that it is built for.
        path: Path of the library, or its name where the system's loader has found it.
    """

    version: str
    cuda: str
    path: str


def gpu_packages() -> list[GpuPackage]:
    """Returns the installed packages that can use a GPU."""
    found = [_built_for(name, *where) for name, where in _BUILD_FILES.items()]
    found += [_named_for(name, (name,)) for name in _NAMED]
    found += [_named_for(name, _dependencies(name)) for name in _NAMED_BY_DEPENDENCY]
    return [package for package in found if package is not None]


def _built_for(name: str, file: str, line: str) -> GpuPackage | None:
    try:
        distribution = metadata.distribution(name)
        text = Path(str(distribution.locate_file(file))).read_text()
    except (metadata.PackageNotFoundError, OSError):
        return None
    stated = re.search(line, text, re.MULTILINE)
    return GpuPackage(name, distribution.version, stated[1] if stated else None)


def _named_for(name: str, names: tuple[str, ...]) -> GpuPackage | None:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    majors = (re.search(r"[_-]cu(?:da)?([0-9]{2})", text) for text in names)
    return GpuPackage(name, version, next((f"{major[1]}.0" for major in majors if major), None))


def _dependencies(name: str) -> tuple[str, ...]:
    try:
        return tuple(metadata.requires(name) or ())
    except metadata.PackageNotFoundError:
        return ()


def find_cudnn() -> Cudnn | None:
    """Returns the cuDNN that ONNX Runtime loads: the packaged one, or else that of the system."""
    names = ["libcudnn.so.9"]
    try:
        packaged = Path(str(metadata.distribution(_ONNXRUNTIME).locate_file(_PACKAGED_CUDNN)))
        names = [str(packaged), *names]
    except metadata.PackageNotFoundError:
        pass
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for function in (library.cudnnGetVersion, library.cudnnGetCudartVersion):
            function.restype = ctypes.c_size_t
        version, cuda = int(library.cudnnGetVersion()), int(library.cudnnGetCudartVersion())
        # 92400 stands for 9.24.0, and 13030 for CUDA 13.3.
        dotted = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
        return Cudnn(dotted, f"{cuda // 1000}.{cuda % 1000 // 10}", name)
    return None


def driver_release() -> str:
    """Returns the release of the NVIDIA driver, such as ``580.65.06``; empty where the kernel does not state it."""
    try:
        stated = re.search(r"\b[0-9]{3,}\.[0-9.]+\b", _PROC_VERSION.read_text())
    except OSError:
        return ""
    return stated[0] if stated else ""


def problems(driver: Driver, packages: list[GpuPackage], cudnn: Cudnn | None, release: str = "") -> Iterator[str]:
    """Yields what keeps packages from this machine's GPUs, each with the remedy, on one line.

    Args:
        driver: Driver of this machine; without one, there is nothing to compare.
        packages: Installed packages that can use a GPU.
        cudnn: The cuDNN that ONNX Runtime loads.
        release: Release of the driver.
    """
    if driver.cuda_version is None:
        return
    for package in packages:
        if package.cuda is None:
            yield f"{package.name} {package.version} is built without CUDA: install its build for CUDA"
        elif _major(package.cuda) > _major(driver.cuda_version):
            newer = _FIRST_RELEASES.get(_major(package.cuda))
            runs = f"driver {release} runs" if release else "the driver runs"
            remedy = f"NVIDIA driver {newer} or newer" if newer else f"an NVIDIA driver for CUDA {package.cuda}"
            needs = f"{package.name} {package.version} needs {package.cuda}"
            yield f"{runs} CUDA {driver.cuda_version}, and {needs}: install {remedy}"
    yield from _cudnn_problems(packages, cudnn)


def _cudnn_problems(packages: list[GpuPackage], cudnn: Cudnn | None) -> Iterator[str]:
    runtime = next((package for package in packages if package.name == _ONNXRUNTIME), None)
    if runtime is None:
        yield f"onnxruntime-gpu is not installed: {install_command('cuda')}"
    elif runtime.cuda is None:
        return  # a fault of its own, already reported
    elif cudnn is None:
        yield f"onnxruntime-gpu {runtime.version} finds no cuDNN 9: {install_command('cuda')}"
    elif _major(cudnn.cuda) != _major(runtime.cuda):
        # The packages for both versions write to the same folder, so the one that was installed last has won.
        wrong, right = (f"nvidia-cudnn-cu{_major(cuda)}" for cuda in (cudnn.cuda, runtime.cuda))
        remedy = f"pip uninstall {wrong} and pip install --force-reinstall {right}"
        yield f"cuDNN {cudnn.version} ({cudnn.path}) is built for CUDA {cudnn.cuda}, not {runtime.cuda}: {remedy}"


def _major(version: str) -> int:
    return int(version.partition(".")[0])
