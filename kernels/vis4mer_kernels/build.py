"""Compiles the native ops for this machine: ``python -m vis4mer_kernels.build``.

The library lies in a cache, under a name made of everything that determines it: the sources, PyTorch, the compilers,
their flags and the processor. Nothing compiles behind a user's back; without a library, PyTorch's own operators compute
the same, slower.
"""

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from vis4mer.errors import OpsError, Vis4merError

# Sources are a package of data, so that an installed wheel can build them too.
_SOURCES_PACKAGE = "vis4mer_kernels_csrc"
# The stable ABI of PyTorch 2.10: a library that keeps to it loads in every later release.
_ABI = "-DTORCH_TARGET_VERSION=0x020a000000000000"
_CPU_FLAGS = f"-std=c++20 -O3 -march=native -ffp-contract=fast -fno-math-errno -fPIC -Wno-psabi {_ABI}".split()
_CUDA_FLAGS = (
    f"-std=c++20 -O3 -DUSE_CUDA -Xcompiler -fPIC {_ABI} "
    "-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]"
).split()


def library_path() -> Path:
    """Where this machine's library is, or would be once built."""
    key = hashlib.sha256()
    for part in (torch.__version__, _processor(), *map(_version, (compiler(), _nvcc())), *_CPU_FLAGS, *_CUDA_FLAGS):
        key.update(part.encode() + b"\0")
    for source in _sources(".cpp", ".h", ".cu", ".cuh"):
        key.update(source.name.encode() + b"\0" + source.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vis4mer" / f"ops-{key.hexdigest()[:16]}.so"


def build() -> Path:
    """Builds the library unless the cache holds it.

    CUDA's part is built where its compiler (``nvcc``) is found and PyTorch is a CUDA build; a GPU is not needed.

    Returns:
        Its path.

    Raises:
        OpsError: there is no C++ compiler, or it fails.
    """
    path = library_path()
    if path.exists():
        return path
    cxx, nvcc = compiler(), _nvcc()
    if cxx is None:
        raise OpsError("compiler=None: the native ops need a C++20 compiler; install g++ or set CXX")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        torch_folder = Path(torch.__file__).parent
        objects = []
        for source in _sources(".cpp", *((".cu",) if nvcc else ())):
            command = (nvcc, *_CUDA_FLAGS) if nvcc and source.suffix == ".cu" else (cxx, *_CPU_FLAGS)
            objects.append(str(Path(scratch) / f"{source.parent.name}_{source.stem}.o"))
            _run(*command, f"-I{torch_folder / 'include'}", "-c", str(source), "-o", objects[-1])
        linked = Path(scratch) / path.name
        # nvcc links CUDA's runtime by itself.
        linker, cuda = (nvcc, ["-ltorch_cuda"]) if nvcc else (cxx, [])
        folder = f"-L{torch_folder / 'lib'}"
        _run(linker, "-shared", *objects, "-o", str(linked), folder, "-ltorch_cpu", "-lc10", *cuda)
        linked.replace(path)
    return path


def _sources(*suffixes: str) -> list[Path]:
    package = importlib.util.find_spec(_SOURCES_PACKAGE)
    folders = (package and package.submodule_search_locations) or ()
    found = sorted(path for folder in folders for path in Path(folder).rglob("*") if path.suffix in suffixes)
    if not found:
        raise OpsError(f"package={_SOURCES_PACKAGE!r}: holds no sources of the native ops; reinstall vis4mer")
    return found


def compiler() -> str | None:
    """The C++ compiler: ``CXX``, or g++; None where there is neither."""
    return shutil.which(os.environ.get("CXX") or "g++")


def _nvcc() -> str | None:
    """CUDA's compiler, if PyTorch could use what it compiles."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which(f"{home}/bin/nvcc" if home else "nvcc") if torch.version.cuda else None


@functools.cache
def _version(program: str | None) -> str:
    if program is None:
        return "none"
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout


def _processor() -> str:
    """What ``-march=native`` compiles for: a cache may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stderr or done.stdout).strip().splitlines()
        reason = next((line for line in output if "error" in line.lower()), output[0] if output else "no output")
        raise OpsError(f"compiler={command[0]!r}: fails with {reason!r}; the whole command is: {' '.join(command)}")


def main() -> None:
    """Builds, and says where the library is."""
    try:
        print(build())
    except Vis4merError as error:
        sys.exit(f"vis4mer: error: {error}")


if __name__ == "__main__":
    main()
