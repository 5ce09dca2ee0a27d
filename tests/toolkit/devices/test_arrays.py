"""Arrays on a GPU, with a fake driver whose device memory is the host's and whose GPU works as late as it may."""

import ctypes
import gc
import re
from concurrent.futures import ThreadPoolExecutor
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

from ..fake_driver import OTHER_STREAM, STREAM, HostKernel

GPU = Device("cuda")


@pytest.fixture
def driver(driver: Any) -> Any:
    driver.deferred = True
    return driver


def uploaded(array: np.ndarray) -> DeviceArray:
    return DeviceArray.upload(array, GPU)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), zeros=st.integers(0, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_join_equals_numpys_on_host_and_device(driver: Any, sizes: list[int], zeros: int) -> None:
    pieces = [numbers(size, 2, 3) for size in sizes]
    expected = np.concatenate([*pieces, np.zeros((zeros, 2, 3), np.float32)])
    np.testing.assert_array_equal(join(pieces, len(expected)), expected)
    on_device = [uploaded(piece) for piece in pieces]
    driver.copies.clear()
    joined = join(on_device, len(expected))
    del on_device  # queued copies still read the pieces
    gc.collect()
    assert isinstance(joined, DeviceArray)
    assert "HtoD" not in driver.copies and "DtoH" not in driver.copies, "tokens left the device"
    np.testing.assert_array_equal(joined.numpy(), expected)


def test_a_single_whole_piece_is_not_copied(driver: Any) -> None:
    on_cpu, on_gpu = numbers(4, 2), uploaded(numbers(4, 2))
    assert join([on_cpu], 4) is on_cpu
    assert join([on_gpu], 4) is on_gpu
    assert on_host(on_cpu) is on_cpu


def test_neighbours_in_memory_are_joined_without_a_copy(driver: Any) -> None:
    values = numbers(6, 2)
    array = uploaded(values)
    driver.copies.clear()
    view = join([array[1:2], array[2:3], array[3:5]], 4)
    assert isinstance(view, DeviceArray)
    assert (view.address, view.owner) == (array[1:].address, array.owner)
    assert driver.copies == []
    joined = join([array[4:5], array[5:6], array[0:1], array[1:2]], 4)
    assert driver.copies == ["DtoD"] * 2
    np.testing.assert_array_equal(on_host(joined), values[[4, 5, 0, 1]])


def test_only_a_download_waits_and_for_the_stream_alone(driver: Any) -> None:
    array = uploaded(numbers(4, 2))
    join([array, array[:2]], 8).reshape((16,))
    assert driver.calls["cuStreamSynchronize"] == driver.calls["cuEventSynchronize"] == 0
    array.numpy()
    assert driver.calls["cuStreamSynchronize"] == 1


def test_uploads_may_follow_each_other_at_once(driver: Any) -> None:
    """One staging buffer serves all: it is filled again once the copy out of it is done, and grows as needed."""
    values = [numbers(n, 5) for n in (3, 2, 3, 7, 0, 7)]
    arrays = []
    for value in values:
        passed = value.copy()
        arrays.append(uploaded(passed))
        passed[:] = -1
    for array, value in zip(arrays, values, strict=True):
        np.testing.assert_array_equal(array.numpy(), value)
    np.testing.assert_array_equal(uploaded(values[0][:, ::2]).numpy(), values[0][:, ::2])


def test_memory_is_reused_without_allocations_or_waits(driver: Any) -> None:
    def batch() -> None:
        pieces = [DeviceArray.empty((4, 8), np.dtype(np.float32), GPU) for _ in range(2)]
        join(pieces, 10)

    batch()
    driver.run_queued()
    before = driver.allocations
    for _ in range(5):
        batch()
        driver.run_queued()
    assert driver.allocations == before
    assert driver.calls["cuStreamSynchronize"] == 0
    assert driver.memory == {}


def test_a_driver_without_pools(driver: Any) -> None:
    driver.pools = False
    pieces = [uploaded(numbers(2, 3)), uploaded(numbers(3, 3))]
    joined = join(pieces, 6)
    del pieces
    gc.collect()
    np.testing.assert_array_equal(on_host(joined)[2:5], numbers(3, 3))
    del joined
    gc.collect()
    assert driver.memory == {}


def test_collection_leaves_the_threads_context_alone(driver: Any) -> None:
    array = uploaded(numbers(2, 2))
    driver.contexts[-1] = 99  # another library's
    del array
    gc.collect()
    driver.run_queued()
    assert driver.memory == {}
    assert driver.contexts == [99]


def test_one_stream_for_all_threads(driver: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        streams = set(pool.map(cuda.stream_of, [GPU] * 32))
    assert len(streams) == driver.calls["cuStreamCreate"] == 1


def test_kernels_are_loaded_and_launched(driver: Any) -> None:
    launches = []
    types = (ctypes.c_uint64, ctypes.c_float, ctypes.c_int)
    driver.kernels["scale"] = HostKernel(types, lambda *launch: launches.append(launch))
    stream = cuda.stream_of(GPU)
    kernel = stream.load_kernel(b"// PTX with the function scale", "scale")
    stream.launch(kernel, (3, 2, 1), (32, 8, 1), ctypes.c_uint64(2**40), ctypes.c_float(0.5), ctypes.c_int(-1))
    assert launches == []
    stream.synchronize()
    ((grid, block, *values),) = launches
    assert (grid, block, [value.value for value in values]) == ((3, 2, 1), (32, 8, 1), [2**40, 0.5, -1])
    driver.fail = "cuModuleLoadData"
    with pytest.raises(DeviceError, match="cuModuleLoadData failed"):
        stream.load_kernel(b"", "scale")


def test_an_old_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(**{name: SimpleNamespace() for name in cuda._PROTOTYPES if name != "cuMemAllocAsync"})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: old)
    with pytest.raises(DeviceError, match=r"lacks cuMemAllocAsync; install a newer NVIDIA driver"):
        cuda.load_driver.__wrapped__()


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
    driver.run_queued()
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
    assert facts["stream"] == STREAM
    cuda.stream_of(GPU).synchronize()
    # The same keys as NumPy's interface, which describes memory on the host: here that is where the device's lies.
    again = np.asarray(SimpleNamespace(__array_interface__=facts, owner=array))
    np.testing.assert_array_equal(again, values)
    view = DeviceArray.from_interface(array, GPU)
    assert (view.address, view.shape, view.dtype, view.owner) == (array.address, (3, 2), np.float32, array)
    assert driver.calls["cuStreamWaitEvent"] == 0
    elsewhere = SimpleNamespace(__cuda_array_interface__=facts | {"stream": OTHER_STREAM})
    DeviceArray.from_interface(elsewhere, GPU)
    assert driver.calls["cuStreamWaitEvent"] == driver.calls["cuEventDestroy_v2"] == 1


@pytest.mark.parametrize(
    "function", ["cuMemAllocAsync", "cuMemcpyDtoDAsync_v2", "cuMemsetD8Async", "cuStreamSynchronize"]
)
def test_a_failing_device_is_an_error(driver: Any, function: str) -> None:
    piece = uploaded(numbers(2, 2))
    driver.fail = function
    with pytest.raises(DeviceError, match=f"device='cuda:0': {function} failed: CUDA_ERROR_OUT_OF_MEMORY"):
        join([piece], 3).numpy()  # type: ignore[union-attr]
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
        "CUevent": ctypes.c_void_p,
        "CUmodule": ctypes.c_void_p,
        "CUfunction": ctypes.c_void_p,
        "CUmemoryPool": ctypes.c_void_p,
        "CUdevice_attribute": ctypes.c_int,
        "CUmemPool_attribute": ctypes.c_int,
        "CUresult": ctypes.c_int,
    }
    for name, types in cuda._PROTOTYPES.items():
        plain = name.removesuffix("_v2")
        if plain != name:
            assert re.search(rf"#define {plain}\s+(__CUDA_API_PTSZ\()?{name}\b", header), f"{plain} is not {name}"
        found = re.search(rf"^CUresult CUDAAPI {plain}\(([^)]*)\);", header, re.MULTILINE)
        assert found, f"{plain} is not declared"
        declared = [
            ctypes.c_char_p
            if re.search(r"const char \*\w+$", parameter)
            else ctypes.c_void_p
            if "*" in parameter
            else kinds[parameter.strip().rpartition(" ")[0]]
            for parameter in found[1].split(",")
        ]
        assert declared == list(types), f"{plain}({found[1]})"


def test_the_fake_driver_has_every_call(driver: Any) -> None:
    assert all(hasattr(driver, name) for name in cuda._PROTOTYPES)
