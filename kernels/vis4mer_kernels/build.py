"""Compiles the native ops for this machine: ``python -m vis4mer_kernels.build``.

The library is cached under a name derived from the sources, PyTorch's version, the flags and the processor. A record
beside it holds its digest and the versions of the compilers. Loading needs no compiler; building again compiles only
if the compilers have changed. Nothing is compiled implicitly: without a library, PyTorch's own operators compute the
same results, more slowly.
"""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from vis4mer.errors import OpsError, Vis4merError
from vis4mer.files import atomic_file

COMMAND = "python -m vis4mer_kernels.build"

# The sources are a package of data, so that an installed wheel can build them too.
_SOURCES_PACKAGE = "vis4mer_kernels_csrc"
# The stable ABI of PyTorch 2.10: a library restricted to it loads in every later release.
_ABI = "-DTORCH_TARGET_VERSION=0x020a000000000000"
# -ffp-contract=fast fuses multiply-adds. Not -ffast-math, which also reorders sums and assumes that no value is NaN.
_CPU_FLAGS = f"-std=c++20 -O3 -march=native -ffp-contract=fast -fno-math-errno -fPIC -Wno-psabi {_ABI}".split()
# Machine code for A100 and H100, and PTX from which the driver compiles for later GPUs.
_CUDA_FLAGS = (
    f"-std=c++20 -O3 -DUSE_CUDA -Xcompiler -fPIC {_ABI} "
    "-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]"
).split()


def library_path() -> Path:
    """Returns the path of this machine's library, whether it is built or not.

    Raises:
        OpsError: The sources are not installed, or there is no home folder for the cache.
    """
    key = hashlib.sha256()
    for part in (torch.__version__, _processor(), *_CPU_FLAGS, *_CUDA_FLAGS):
        key.update(part.encode() + b"\0")
    for source in _sources(".cpp", ".h", ".cu", ".cuh"):
        key.update(source.name.encode() + b"\0" + source.read_bytes())
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OpsError.of("cache", None, str(error), "set XDG_CACHE_HOME") from None
    return cache / "vis4mer" / f"ops-{key.hexdigest()[:16]}.so"


def find() -> Path | None:
    """Returns this machine's library after checking its digest; None if it is not built or cannot be read.

    Raises:
        OpsError: The file is not the one that was built.
    """
    path = library_path()
    try:
        record = json.loads(_record(path).read_bytes())
        intact = hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
    except OSError:
        return None
    except (ValueError, KeyError, TypeError):  # a damaged record
        intact = False
    if not intact:
        raise OpsError.of("library", path, "is not the file that was built", f"delete it and {COMMAND}")
    return path


def build() -> Path:
    """Builds the library, unless the cache holds one made by the present compilers.

    CUDA code is compiled if ``nvcc`` is found and PyTorch is a CUDA build; a GPU is not needed.

    Returns:
        The library's path.

    Raises:
        OpsError: There is no C++ compiler, it fails, or the cache cannot be written.
    """
    path = library_path()
    cxx, nvcc = compiler(), _nvcc()
    if cxx is None:
        raise OpsError.of("compiler", None, "the native ops need a C++20 compiler", "install g++ or set CXX")
    compilers = [_version(cxx), _version(nvcc)]
    try:
        if find() is not None and json.loads(_record(path).read_bytes())["compilers"] == compilers:
            return path
    except OpsError:
        pass  # A damaged library is replaced.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            library = _compile(Path(scratch), cxx, nvcc).read_bytes()
        # Without its record a library does not count. Removing the record first keeps another process from pairing the
        # old record with the new file.
        _record(path).unlink(missing_ok=True)
        with atomic_file(path) as file:
            file.write(library)
        with atomic_file(_record(path)) as file:
            record = {"sha256": hashlib.sha256(library).hexdigest(), "compilers": compilers}
            file.write(json.dumps(record).encode())
    except OSError as error:
        raise OpsError.of("cache", path.parent, f"cannot be written ({error.strerror})", "set XDG_CACHE_HOME") from None
    return path


def _record(library: Path) -> Path:
    return library.with_suffix(".json")


def _compile(folder: Path, cxx: str, nvcc: str | None) -> Path:
    """Compiles the sources into a library in `folder`."""
    torch_folder = Path(torch.__file__).parent
    objects = []
    for source in _sources(".cpp", *((".cu",) if nvcc else ())):
        command = (nvcc, *_CUDA_FLAGS) if nvcc and source.suffix == ".cu" else (cxx, *_CPU_FLAGS)
        objects.append(str(folder / f"{source.parent.name}_{source.stem}.o"))
        _run(*command, f"-I{torch_folder / 'include'}", "-c", str(source), "-o", objects[-1])
    linked = folder / "ops.so"
    # nvcc adds CUDA's runtime by itself.
    linker, cuda = (nvcc, ["-ltorch_cuda"]) if nvcc else (cxx, [])
    libraries = (f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10", *cuda)
    _run(linker, "-shared", *objects, "-o", str(linked), *libraries)
    return linked


def _sources(*suffixes: str) -> list[Path]:
    """Returns the source files with one of these suffixes, in order."""
    package = importlib.util.find_spec(_SOURCES_PACKAGE)
    folders = (package and package.submodule_search_locations) or ()
    # A folder without __init__.py is a namespace, which spans every installation on the path (a checkout on PYTHONPATH
    # beside an installed wheel, say). The first one wins, as it does for ordinary packages; linking two copies fails.
    for folder in folders:
        if found := sorted(path for path in Path(folder).rglob("*") if path.suffix in suffixes):
            return found
    raise OpsError.of("package", _SOURCES_PACKAGE, "holds no sources of the native ops", "reinstall vis4mer")


def compiler() -> str | None:
    """Returns the path of the C++ compiler, ``CXX`` or g++; None if it does not exist."""
    return shutil.which(os.environ.get("CXX") or "g++")


def _nvcc() -> str | None:
    """Returns the path of CUDA's compiler; None if it does not exist or PyTorch is built without CUDA."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which(f"{home}/bin/nvcc" if home else "nvcc") if torch.version.cuda else None


def _version(program: str | None) -> str:
    if program is None:
        return "none"
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout


def _processor() -> str:
    """Returns what ``-march=native`` depends on; different machines may share one cache."""
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
        raise OpsError.of("compiler", command[0], f"fails with {reason!r}; the whole command is: {' '.join(command)}")


def main() -> None:
    """Builds the library and prints its path."""
    try:
        print(build())
    except Vis4merError as error:
        sys.exit(f"vis4mer: error: {error}")


if __name__ == "__main__":
    main()
