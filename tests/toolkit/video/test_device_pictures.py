"""The GPU's kernels, run on the host thread by thread, against the CPU's code; and their compilation for GPUs."""

import ctypes
import re
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import DeviceArray
from vis4mer.devices.device import Device
from vis4mer.video import colour
from vis4mer.video.device_pictures import Extremes, PictureResizer
from vis4mer.video.resize import IDENTITY, resize, upright

from .device_code import PTX, compile_host_kernels, compile_ptx, install, source_digest

GPU = Device("cuda")
# All combinations of quarter turns and mirrorings.
SIGNS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
DISPLAYS = [(a, 0, 0, d) for a, d in SIGNS] + [(0, b, c, 0) for b, c in SIGNS]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiled = compile_host_kernels(tmp_path_factory.mktemp("pictures"))
    if compiled is None:
        pytest.skip("needs a C++ compiler")
    return compiled


@pytest.fixture
def gpu(driver: Any, library: ctypes.CDLL) -> Any:
    install(library, driver)
    driver.deferred = True
    return driver


def pictures(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Noise, which no resampling leaves as it is, beside a saturated area, whose corrected colours exceed the range."""
    images = np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    images[:, : height // 2, : width // 2] = (255, 0, 40)
    return images


def on_gpu(
    images: NDArray[np.uint8],
    preprocessing: Preprocessing,
    display: tuple[int, int, int, int] = IDENTITY,
    colours: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    _, height, width, _ = images.shape
    resizer = PictureResizer(GPU, preprocessing, height=height, width=width, display=display, colours=colours)
    return resizer([DeviceArray.upload(images, GPU)]).numpy()


def on_cpu(
    images: NDArray[np.uint8], preprocessing: Preprocessing, display: tuple[int, int, int, int] = IDENTITY
) -> NDArray[np.uint8]:
    return np.stack([resize(upright(np.moveaxis(image, 2, 0), display), preprocessing) for image in images])


def check(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    # Sums differ by float32 rounding, which moves a value across a rounding limit only rarely.
    assert (difference != 0).mean() <= 0.001


SIZES = [(37, 53, 24, 32), (24, 32, 24, 32), (9, 200, 33, 31), (64, 48, 70, 101), (1, 1, 5, 3), (130, 5, 2, 40)]


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["stretch", "crop"])
@pytest.mark.parametrize("size", SIZES)
def test_images_are_those_of_the_cpu(gpu: Any, size: tuple[int, ...], mode: Any, interpolation: Any) -> None:
    height, width, rows, columns = size
    preprocessing = Preprocessing(height=rows, width=columns, resize=mode, interpolation=interpolation)
    images = pictures(2, height, width)
    check(on_gpu(images, preprocessing), on_cpu(images, preprocessing))


@pytest.mark.parametrize("display", DISPLAYS)
def test_rotation_and_mirroring(gpu: Any, display: tuple[int, int, int, int]) -> None:
    preprocessing = Preprocessing(height=21, width=34, resize="crop", interpolation="bicubic")
    images = pictures(2, 45, 62)
    check(on_gpu(images, preprocessing, display), on_cpu(images, preprocessing, display))


@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (1920, 1080)])
@pytest.mark.parametrize("interpolation", ["area", "bicubic"])
def test_film_sizes(gpu: Any, size: tuple[int, int], interpolation: Any) -> None:
    preprocessing = Preprocessing(height=56, width=56, interpolation=interpolation)
    images = pictures(1, *size)
    check(on_gpu(images, preprocessing), on_cpu(images, preprocessing))


@pytest.mark.parametrize("matrix", [1, 9])
def test_colours_are_corrected_and_clipped_before_resizing(gpu: Any, matrix: int) -> None:
    preprocessing = Preprocessing(height=20, width=31, interpolation="bicubic")
    images = pictures(1, 61, 80)
    correction = colour.correction(matrix)
    assert correction is not None
    corrected = (images @ correction.T.astype(np.float64)).clip(0, 255)
    # The CPU's code takes integers, so fractions are resized apart: it is linear, but for the last rounding.
    found, rounded = on_gpu(images, preprocessing, colours=correction), np.rint(corrected).astype(np.uint8)
    assert np.abs(found.astype(int) - on_cpu(rounded, preprocessing)).max() <= 1
    assert np.abs(found.astype(int) - on_cpu(images, preprocessing)).max() > 10


def test_the_order_of_threads_changes_nothing(driver: Any, library: ctypes.CDLL) -> None:
    preprocessing = Preprocessing(height=21, width=34, interpolation="bicubic")
    images = pictures(3, 45, 62)
    results = []
    for descending in (False, True):
        install(library, driver, descending=descending)
        results.append(on_gpu(images, preprocessing))
    np.testing.assert_array_equal(*results)


def test_sequences_are_resized_into_one_array(gpu: Any) -> None:
    preprocessing = Preprocessing(height=8, width=8)
    images = pictures(5, 12, 10)
    resizer = PictureResizer(GPU, preprocessing, height=12, width=10, display=IDENTITY, colours=None)
    parts = [DeviceArray.upload(images[part], GPU) for part in (slice(0, 2), slice(2, 2), slice(2, 5))]
    gpu.copies.clear()
    gpu.calls.clear()
    result = resizer(parts)
    assert gpu.copies == []
    assert gpu.calls["cuStreamSynchronize"] == 0
    np.testing.assert_array_equal(result.numpy(), on_gpu(images, preprocessing))
    with pytest.raises(ValueError, match=r"must be uint8 \[n, 12, 10, 3\]"):
        resizer([DeviceArray.upload(images[:, :10], GPU)])


def test_extremes(gpu: Any) -> None:
    images = np.random.default_rng(0).integers(20, 100, (7, 5, 9, 3), dtype=np.uint8)
    images[3, 4, 8, 2] = 130
    extremes = Extremes(GPU, (5, 9, 3))
    assert extremes.read() == (0, 0)
    for part in (slice(0, 2), slice(2, 2), slice(2, 7)):
        extremes.add(DeviceArray.upload(images[part], GPU))
    assert extremes.read() == (130, int((images.max(axis=0) - images.min(axis=0)).max()))


def test_the_compiled_code_is_the_sources() -> None:
    """Changing the source means running ``python -m tests.toolkit.video.device_code``."""
    text = PTX.read_text()
    assert source_digest() in text
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    if (compiled := compile_ptx(nvcc)).splitlines()[1] != text.splitlines()[1]:
        pytest.skip("nvcc is another version than the one that compiled the package's code")
    assert compiled == text


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="ptxas is not installed")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_gpus_run_the_compiled_code_without_spills(architecture: str) -> None:
    command = ["ptxas", "-v", f"-arch={architecture}", str(PTX), "-o", "/dev/null"]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert len(re.findall(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", report)) == 2
    assert all(int(registers) <= 64 for registers in re.findall(r"Used (\d+) registers", report))
