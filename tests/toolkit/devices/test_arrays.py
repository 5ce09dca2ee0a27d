"""Arrays on a GPU, with a fake driver whose device memory is the host's."""

import ctypes
import gc
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vis4mer.devices import cuda
from vis4mer.devices.arrays import DeviceArray, join, on_host
from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError

GPU = Device("cuda")


def uploaded(array: np.ndarray) -> DeviceArray:
    target = DeviceArray.empty(array.shape, array.dtype, GPU)
    ctypes.memmove(target.address, array.ctypes.data, array.nbytes)
    return target


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), zeros=st.integers(0, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_join_equals_numpys_on_host_and_device(driver: Any, sizes: list[int], zeros: int) -> None:
    pieces = [numbers(size, 2, 3) for size in sizes]
    expected = np.concatenate([*pieces, np.zeros((zeros, 2, 3), np.float32)])
    np.testing.assert_array_equal(join(pieces, len(expected)), expected)
    driver.copies.clear()
    joined = join([uploaded(piece) for piece in pieces], len(expected))
    assert isinstance(joined, DeviceArray)
    assert "HtoD" not in driver.copies and "DtoH" not in driver.copies, "tokens left the device"
    np.testing.assert_array_equal(joined.numpy(), expected)


def test_a_single_whole_piece_is_not_copied(driver: Any) -> None:
    on_cpu, on_gpu = numbers(4, 2), uploaded(numbers(4, 2))
    assert join([on_cpu], 4) is on_cpu
    assert join([on_gpu], 4) is on_gpu
    assert on_host(on_cpu) is on_cpu


def test_views_share_the_memory_and_keep_it(driver: Any) -> None:
    values = numbers(6, 2, 4)
    array = uploaded(values)
    view = array[2:5].reshape((3, 8))
    assert (len(view), view.shape, view.nbytes) == (3, (3, 8), 96)
    assert view.address == array.address + 2 * 8 * 4
    del array
    gc.collect()
    np.testing.assert_array_equal(on_host(view), values[2:5].reshape(3, 8))
    assert view[5:].shape == (0, 8)
    with pytest.raises(ValueError, match=r"shape=\(5,\): must have as many elements as \(3, 8\)"):
        view.reshape((5,))
    del view
    gc.collect()
    assert driver.memory == {}


@pytest.mark.parametrize("step", [2, -1])
def test_a_slice_with_a_step_is_an_error(driver: Any, step: int) -> None:
    array = uploaded(numbers(6, 2))
    np.testing.assert_array_equal(array[1:5:1].numpy(), numbers(6, 2)[1:5])
    with pytest.raises(ValueError, match=f"step={step}: must be 1"):
        array[::step]


def test_arrays_are_shared_with_other_libraries(driver: Any) -> None:
    values = numbers(3, 2)
    array = uploaded(values)
    facts = array.__cuda_array_interface__
    # The same keys as NumPy's interface, which describes memory on the host: here that is where the device's lies.
    again = np.asarray(SimpleNamespace(__array_interface__=facts, owner=array))
    np.testing.assert_array_equal(again, values)
    view = DeviceArray.from_interface(array, GPU)
    assert (view.address, view.shape, view.dtype, view.owner) == (array.address, (3, 2), np.float32, array)


@pytest.mark.parametrize(
    "function", ["cuMemAlloc_v2", "cuMemcpyDtoDAsync_v2", "cuMemsetD8Async", "cuStreamSynchronize"]
)
def test_a_failing_device_is_an_error(driver: Any, function: str) -> None:
    piece = uploaded(numbers(2, 2))
    driver.fail = function
    with pytest.raises(DeviceError, match=f"device='cuda:0': {function} failed: CUDA_ERROR_OUT_OF_MEMORY"):
        join([piece], 3)
    driver.fail = ""


HEADERS = [
    path
    for path in (
        Path("/usr/local/cuda/include/cuda.h"),
        *Path(np.__file__).parents[1].glob("nvidia/*/include/cuda.h"),
    )
    if path.is_file()
]


@pytest.mark.skipif(not HEADERS, reason="no CUDA header on this machine")
def test_the_calls_have_the_types_of_the_cuda_header() -> None:
    header = HEADERS[0].read_text(errors="replace")
    kinds = {
        "unsigned int": ctypes.c_uint,
        "int": ctypes.c_int,
        "size_t": ctypes.c_size_t,
        "unsigned char": ctypes.c_ubyte,
        "CUdevice": ctypes.c_int,
        "CUdeviceptr": ctypes.c_uint64,
        "CUcontext": ctypes.c_void_p,
        "CUstream": ctypes.c_void_p,
        "CUresult": ctypes.c_int,
    }
    for name, types in cuda._PROTOTYPES.items():
        plain = name.removesuffix("_v2")
        if plain != name:
            assert re.search(rf"#define {plain}\s+(__CUDA_API_PTSZ\()?{name}\b", header), f"{plain} is not {name}"
        found = re.search(rf"^CUresult CUDAAPI {plain}\(([^)]*)\);", header, re.MULTILINE)
        assert found, f"{plain} is not declared"
        declared = [
            ctypes.c_void_p if "*" in parameter else kinds[parameter.strip().rpartition(" ")[0]]
            for parameter in found[1].split(",")
        ]
        assert declared == list(types), f"{plain}({found[1]})"


def test_the_fake_driver_has_every_call(driver: Any) -> None:
    assert set(cuda._PROTOTYPES) <= set(dir(driver))
