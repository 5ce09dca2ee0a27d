"""The kernels of `vis4mer.video.device_pictures`: compiled to PTX, and for the host as a stand-in for a GPU's."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from vis4mer.video import device_pictures
from vis4mer.video.device_pictures import MatrixParameter, PicturesParameter, TapsParameter

from ...fake_driver import FakeDriver, HostKernel

_FOLDER = Path(__file__).parent
_EMULATOR = _FOLDER.parents[2] / "kernels" / "cuda_host"
SOURCE = Path(device_pictures.__file__).with_name("pictures.cu")
PTX = SOURCE.with_suffix(".ptx")

# Turing is the oldest architecture that CUDA 13 compiles for, and 6.3 the oldest PTX version that describes it. Drivers
# reject PTX of a version newer than theirs, and nvcc always states its own, although the code uses nothing newer.
_ARCHITECTURE = "compute_75"
_PTX_VERSION = "6.3"

_RESIZE = (
    PicturesParameter,
    MatrixParameter,
    TapsParameter,
    TapsParameter,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int,
)
_TRACK = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def source_digest() -> str:
    """Returns the SHA-256 of the source, which the PTX states."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def compile_ptx(nvcc: str) -> str:
    """Compiles the kernels; the first lines state the source and the compiler."""
    command = [nvcc, "-std=c++17", "-O3", f"-arch={_ARCHITECTURE}", "-ptx", str(SOURCE), "-o", "/dev/stdout"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"^// Cuda compilation tools, (release .*)$", text, re.MULTILINE)
    assert found
    code = re.sub(r"^\.version .*$", f".version {_PTX_VERSION}", text[text.index(".version") :], flags=re.MULTILINE)
    return f"// Compiled from {SOURCE.name}, SHA-256 {source_digest()},\n// by nvcc {found[1]}.\n{code}"


def compile_host_kernels(folder: Path) -> ctypes.CDLL | None:
    """Compiles the kernels for the host; returns None without a C++ compiler."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        return None
    library = folder / "pictures.so"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", "-Werror", f"-I{_EMULATOR}", f"-I{SOURCE.parent}"]
    subprocess.run([compiler, *flags, str(_FOLDER / "host.cpp"), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def install(library: ctypes.CDLL, driver: FakeDriver, *, descending: bool = False) -> None:
    """Lets a stand-in driver run the kernels.

    Args:
        library: Library from `compile_host_kernels`.
        driver: Driver to install them in.
        descending: Whether threads and thread blocks run from last to first.
    """

    def launch(name: str) -> Any:
        def run(grid: tuple[int, ...], block: tuple[int, ...], *values: Any) -> None:
            _check_memory(driver, grid, values)
            order = ctypes.c_bool(descending)
            getattr(library, name)((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), order, *values)

        return run

    driver.kernels["resize_pictures"] = HostKernel(_RESIZE, launch("resize_pictures_on_host"))
    driver.kernels["track_extremes"] = HostKernel(_TRACK, launch("track_extremes_on_host"))


def _check_memory(driver: FakeDriver, grid: tuple[int, ...], values: tuple[Any, ...]) -> None:
    """Fails unless the arrays that a kernel is called with are device memory, as far as their sizes are known."""
    if isinstance(values[0], PicturesParameter):
        pictures, _, columns, rows, images, width, height = values
        driver.require(images.value, grid[2] * height.value * width.value * 3)
        for taps, pixels in ((columns, width.value), (rows, height.value)):
            driver.require(taps.first, 4 * pixels)
            driver.require(taps.weights, 4 * pixels * taps.count)
        corner = ctypes.c_int.from_address
        last_row = corner(rows.first + 4 * (height.value - 1)).value + rows.count - 1
        last_column = corner(columns.first + 4 * (width.value - 1)).value + columns.count - 1
        for picture in (0, grid[2] - 1):
            for row in (corner(rows.first).value, last_row):
                for column in (corner(columns.first).value, last_column):
                    offset = row * pictures.row_stride + column * pictures.column_stride
                    driver.require(pictures.data + picture * pictures.picture_stride + offset, 3)
    else:
        images, count, size, lowest, highest, *results = values
        driver.require(images.value, count.value * size.value)
        for extremes in (lowest, highest):
            driver.require(extremes.value, size.value)
        for result in results:
            driver.require(result.value, 4)
