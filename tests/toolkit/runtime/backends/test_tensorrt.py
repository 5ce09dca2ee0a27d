"""The runner over stand-ins for the driver, whose device memory is the host's, and for TensorRT's Python API."""

import ctypes
import gc
import importlib.util
import inspect
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from vis4mer.devices import cuda
from vis4mer.devices.arrays import DeviceArray
from vis4mer.devices.device import Device, Driver
from vis4mer.errors import BundleError, DeviceError, MissingDependencyError
from vis4mer.packages import install_command
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.backends.registry import open_with
from vis4mer.runtime.backends.tensorrt import TensorRTBackend, TensorRTRunner
from vis4mer.runtime.interface import ENCODER, GraphInterface, TensorSpec, graph_interfaces

from ...fake_driver import STREAM, FakeDriver

GPU = Device("cuda")
INTERFACE = GraphInterface(
    (TensorSpec("frames", "uint8", ("batch", 3)),), (TensorSpec("tokens", "float32", ("batch", 2)),)
)
# Names that differ between the stand-in and the bindings.
ARGUMENTS = {"i": "index", "profile": "profile_index"}
ENGINE = Graph("encoder", INTERFACE, b"engine")


class FakeTensorRT:
    """An API whose engine maps frames uint8 [N, 3], at profile 2:4:4, to [N, 2]: a row's sum and its first element.

    Like the real one, it executes on the stream, later than it is called, and uses memory that the caller provides.
    """

    __name__ = "tensorrt"
    __version__ = "11.4"
    TensorIOMode = SimpleNamespace(INPUT="in")
    ExecutionContextAllocationStrategy = SimpleNamespace(STATIC="static", USER_MANAGED="user managed")

    class ILogger:
        ERROR, INTERNAL_ERROR, INFO = "error", "internal error", "info"

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.batches: list[int] = []
        self.addresses: list[dict[str, int]] = []
        self.outputs = ["tokens"]
        self.executes = True
        self.profile = (2, 4, 4)
        self.host_code_allowed = False
        self.refusal = "Serialization assertion\nfailed"

    def nptype(self, dtype: str) -> Any:
        return {"uint8": np.uint8, "float32": np.float32}[dtype]

    def Runtime(self, log: Any) -> Any:  # noqa: N802
        assert self.driver.contexts[-1], "an engine is loaded onto the current GPU"
        runtime = SimpleNamespace(engine_host_code_allowed=False)

        def deserialize_cuda_engine(engine: bytes) -> Any:
            self.host_code_allowed = runtime.engine_host_code_allowed
            if engine != b"engine":
                log.log(log.INFO, "reading")
                log.log(log.ERROR, self.refusal)
                log.log(log.ERROR, "and then something else")
                return None
            return FakeEngine(self, log)

        runtime.deserialize_cuda_engine = deserialize_cuda_engine
        return runtime


class FakeEngine:
    SHAPES: ClassVar = {"frames": (-1, 3), "tokens": (-1, 2), "more": (-1, 2)}
    ACTIVATIONS = 100  # bytes per row

    def __init__(self, trt: FakeTensorRT, log: Any) -> None:
        self.trt, self.log = trt, log
        self.names = ["frames", *trt.outputs]
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = trt.profile[2] * self.ACTIVATIONS

    def get_tensor_name(self, i: int) -> str:
        return self.names[i]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "frames" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8" if name == "frames" else "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.SHAPES[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(rows, 3) for rows in self.trt.profile]

    def create_execution_context(self, strategy: Any) -> "FakeContext":
        managed = getattr(strategy, "strategy", strategy)  # a strategy, or a configuration with one
        assert managed == "user managed"
        return FakeContext(self)

    def create_runtime_config(self) -> "FakeConfig":
        return FakeConfig()


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.trt = engine, engine.trt
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.memory = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0 and size >= self.engine.device_memory_size_v2
        self.trt.driver.require(memory, size)
        self.memory = memory

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory % 256 == 0 and name in self.engine.names
        self.addresses[name] = memory
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.trt.profile
        self.shape = shape
        return name == "frames" and smallest <= shape[0] <= largest and shape[1:] == (3,)

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM and self.trt.driver.contexts[-1]
        if not self.trt.executes:
            self.engine.log.log("error", "Error Code 1: Cuda Runtime (out of memory)")
            return False
        self.trt.batches.append(self.shape[0])
        self.trt.addresses.append(dict(self.addresses))
        rows, source, result, memory = self.shape[0], self.addresses["frames"], self.addresses["tokens"], self.memory
        require = self.trt.driver.require

        def execute() -> None:
            require(source, rows * 3)
            require(result, rows * 2 * 4)
            require(memory, rows * FakeEngine.ACTIVATIONS)
            pixels = np.frombuffer((ctypes.c_uint8 * (3 * rows)).from_address(source), np.uint8).reshape(rows, 3)
            ctypes.memset(memory, 0xAB, rows * FakeEngine.ACTIVATIONS)
            tokens = np.stack([pixels.sum(1), pixels[:, 0]], axis=1).astype(np.float32)
            ctypes.memmove(result, tokens.ctypes.data, tokens.nbytes)

        self.trt.driver.queue(execute)
        return True


class FakeConfig:
    """The configuration of TensorRT for RTX, whose cache holds what it has compiled."""

    compiled: ClassVar[Any] = b"compiled"

    def __init__(self) -> None:
        self.strategy = "static"
        self.cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> "FakeCache":
        return FakeCache()

    def set_runtime_cache(self, cache: "FakeCache") -> bool:
        assert cache is not None
        self.cache = cache
        return True


class FakeCache:
    loaded: ClassVar[list[bytes]] = []

    def deserialize(self, blob: bytes) -> bool:
        self.loaded.append(blob)
        return blob == FakeConfig.compiled

    def serialize(self) -> Any:
        return FakeConfig.compiled


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, tmp_path: Path) -> FakeTensorRT:
    fake = FakeTensorRT(driver)
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, fake)  # type: ignore[arg-type]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(FakeCache, "loaded", [])
    driver.deferred = True
    return fake


def frames(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 3), dtype=np.uint8)


def expected(batch: np.ndarray) -> np.ndarray:
    return np.stack([batch.sum(axis=1, dtype=np.int64), batch[:, 0]], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("n", "batches"), [(0, []), (1, [2]), (2, [2]), (3, [3]), (4, [4]), (5, [4, 2]), (8, [4, 4]), (11, [4, 4, 3])]
)
def test_batches_are_split_and_padded_to_the_profile(trt: FakeTensorRT, n: int, batches: list[int]) -> None:
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    result = runner(frames(n))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.numpy(), expected(frames(n)))
    assert trt.batches == batches


def on_device(batch: np.ndarray) -> DeviceArray:
    return DeviceArray.upload(batch, GPU)


def test_a_batch_on_the_device_is_read_in_place(trt: FakeTensorRT, driver: FakeDriver) -> None:
    """Nothing is copied where TensorRT takes the batch and the result where they are."""
    trt.profile = (1, 4, 4)
    runner, batch = TensorRTRunner(ENGINE, GPU, "trt"), on_device(frames(3))
    driver.copies.clear()
    result = runner(batch)
    assert driver.copies == []
    assert trt.addresses == [{"frames": batch.address, "tokens": result.address}]
    np.testing.assert_array_equal(result.numpy(), expected(frames(3)))


def test_rows_that_are_not_aligned_are_copied_on_the_device(trt: FakeTensorRT, driver: FakeDriver) -> None:
    """The second part begins 12 bytes into the batch and 32 bytes into the result."""
    trt.profile = (1, 4, 4)
    runner, batch = TensorRTRunner(ENGINE, GPU, "trt"), on_device(frames(7))
    driver.copies.clear()
    result = runner(batch)
    assert driver.copies == ["DtoD", "DtoD"]
    np.testing.assert_array_equal(result.numpy(), expected(frames(7)))


def test_a_call_waits_for_nothing_and_allocates_nothing_in_steady_state(trt: FakeTensorRT, driver: FakeDriver) -> None:
    runner, batch = TensorRTRunner(ENGINE, GPU, "trt"), frames(7)
    for _ in range(2):
        runner(batch).numpy()
    allocations, waits = driver.allocations, driver.calls["cuStreamSynchronize"]
    for _ in range(3):
        result = runner(batch)
        assert driver.calls["cuStreamSynchronize"] == waits
        np.testing.assert_array_equal(result.numpy(), expected(batch))
        waits = driver.calls["cuStreamSynchronize"]
        del result
    assert driver.allocations == allocations


def test_engines_share_the_memory_of_their_activations(trt: FakeTensorRT, driver: FakeDriver) -> None:
    """Between calls none is held, and calls that are queued one after the other use the same."""
    trt.profile = (1, 4, 4)
    driver.deferred = False
    encoder, head = TensorRTRunner(ENGINE, GPU, "trt"), TensorRTRunner(ENGINE, GPU, "trt")
    assert driver.memory == {}
    batch = on_device(frames(4))
    kept = [encoder(batch), head(batch)]
    activations = 4 * FakeEngine.ACTIVATIONS
    live = sorted(len(block) for block in driver.memory.values())
    assert live == [batch.nbytes, kept[0].nbytes, kept[1].nbytes]
    assert driver.allocations == len(live) + len({activations}) + 1  # the last is page-locked, for the upload


def test_memory_follows_the_profile_and_not_the_batch(trt: FakeTensorRT, driver: FakeDriver) -> None:
    """A head takes 60 windows at once, of which its engine takes 4; copies of a part are made for alignment alone."""
    trt.profile = (1, 1, 4)
    driver.deferred = False
    head, batch = TensorRTRunner(ENGINE, GPU, "trt"), on_device(frames(60))
    result = head(batch)
    np.testing.assert_array_equal(result.numpy(), expected(frames(60)))
    reserved = sum(len(block) for block in (*driver.memory.values(), *driver._pool))
    part = 4 * (3 + 2 * 4 + FakeEngine.ACTIVATIONS)
    assert reserved <= batch.nbytes + result.nbytes + part


def test_the_default_profiles_bound_what_a_paper_size_model_reserves() -> None:
    """A window of the paper has 60 x 197 tokens of 1,024 features; a frame has 224 x 224 pixels."""
    from vis4mer_export.targets.registry import target

    for product in ("trt", "trt-rtx"):
        options = target(product).parse_options({})
        windows = options["head_batch_size"].max * 60 * 197 * 1024 * 4
        pixels = options["batch_size"].max * 224 * 224 * 3
        assert windows + pixels < 200e6


def test_without_pools_results_are_the_same(trt: FakeTensorRT, driver: FakeDriver) -> None:
    driver.pools = False
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    np.testing.assert_array_equal(runner(frames(7)).numpy(), expected(frames(7)))


def test_views_that_are_not_contiguous(trt: FakeTensorRT) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (3, 14), dtype=np.uint8).T[::2]
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    np.testing.assert_array_equal(runner(batch).numpy(), expected(batch))


def test_threads_do_not_mix_their_batches(trt: FakeTensorRT) -> None:
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    batches = [frames(n) for n in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        for batch, result in zip(batches, pool.map(runner, batches), strict=True):
            np.testing.assert_array_equal(result.numpy(), expected(batch))


@pytest.mark.parametrize("batch", [np.zeros((2, 3), np.float32), np.zeros((2, 4), np.uint8), np.zeros(2, np.uint8)])
def test_a_batch_of_another_form_never_reaches_the_device(trt: FakeTensorRT, batch: np.ndarray) -> None:
    runner = open_with(TensorRTBackend("trt"), ENGINE, GPU)
    trt.batches.clear()  # of the warm-up
    with pytest.raises(BundleError, match=r"graph='encoder': takes frames uint8\[batch, 3\], not "):
        runner(batch)
    assert trt.batches == []


def test_an_engine_may_contain_its_own_runtime(trt: FakeTensorRT) -> None:
    TensorRTRunner(ENGINE, GPU, "trt")
    assert trt.host_code_allowed


def cached_kernels(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in (tmp_path / "vis4mer").glob("rtx-kernels-*")]


def test_compiled_kernels_are_kept_for_the_next_process(
    trt: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written after the first batch, because a server may be killed, and again at the end."""
    runner = TensorRTRunner(ENGINE, GPU, "trt-rtx")
    assert (FakeCache.loaded, cached_kernels(tmp_path)) == ([], [])
    runner(frames(3))
    assert cached_kernels(tmp_path) == [b"compiled"]
    assert (tmp_path / "vis4mer").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(FakeConfig, "compiled", b"compiled for more shapes")
    runner(frames(4))
    assert cached_kernels(tmp_path) == [b"compiled"]
    del runner
    gc.collect()
    assert cached_kernels(tmp_path) == [b"compiled for more shapes"]
    TensorRTRunner(ENGINE, GPU, "trt-rtx")
    assert FakeCache.loaded == [b"compiled for more shapes"]


def test_kernels_of_another_driver_are_replaced(
    trt: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for compiled in (b"old", b"new"):
        monkeypatch.setattr(FakeConfig, "compiled", compiled)
        runner = TensorRTRunner(ENGINE, GPU, "trt-rtx")
        np.testing.assert_array_equal(runner(frames(3)).numpy(), expected(frames(3)))
        del runner
        gc.collect()
        assert cached_kernels(tmp_path) == [compiled]


def test_kernels_that_cannot_be_serialised_or_stored_are_lost(
    trt: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeConfig, "compiled", None)
    TensorRTRunner(ENGINE, GPU, "trt-rtx")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(FakeConfig, "compiled", b"compiled")
    TensorRTRunner(ENGINE, GPU, "trt-rtx")
    gc.collect()
    assert cached_kernels(tmp_path) == []


def test_tensorrt_itself_compiles_nothing_when_it_runs(trt: FakeTensorRT, tmp_path: Path) -> None:
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    runner(frames(3))
    del runner
    gc.collect()
    assert cached_kernels(tmp_path) == []


def test_an_engine_that_cannot_be_loaded(trt: FakeTensorRT) -> None:
    with pytest.raises(DeviceError) as error:
        TensorRTRunner(Graph("encoder", INTERFACE, b"other"), GPU, "trt")
    assert str(error.value) == (
        "device='cuda:0': tensorrt 11.4 cannot load the engine encoder: Serialization assertion failed; "
        "engines are bound to the GPU type and the version they were built with; export on this machine"
    )


def test_an_engine_for_which_there_is_no_memory(trt: FakeTensorRT) -> None:
    trt.refusal = "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)"
    with pytest.raises(DeviceError, match=r"OutOfMemory .*; free memory on the device, or use a smaller model$"):
        TensorRTRunner(Graph("encoder", INTERFACE, b"other"), GPU, "trt")


def test_an_engine_of_another_interface(trt: FakeTensorRT) -> None:
    trt.outputs = ["tokens", "more"]
    with pytest.raises(BundleError, match=r"graph='encoder': the file holds .*, more float32\[batch, 2\]\), but"):
        TensorRTRunner(ENGINE, GPU, "trt")
    trt.outputs = ["tokens"]
    stated = GraphInterface((TensorSpec("frames", "uint8", ("batch", 4)),), INTERFACE.outputs)
    with pytest.raises(BundleError, match=r"the file holds \(frames uint8\[batch, 3\]\)"):
        TensorRTRunner(Graph("encoder", stated, b"engine"), GPU, "trt")


def test_a_failing_execution(trt: FakeTensorRT) -> None:
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    trt.executes = False
    message = r"encoder failed on a batch of shape \(3, 3\): .*\(out of memory\); try a smaller --batch-size$"
    with pytest.raises(DeviceError, match=message):
        runner(frames(3))


@pytest.mark.parametrize("function", ["cuInit", "cuStreamCreate", "cuMemAllocAsync"])
def test_a_failing_driver(trt: FakeTensorRT, driver: Any, function: str) -> None:
    driver.fail = function
    with pytest.raises(DeviceError, match=f"device='cuda:0': {function} failed: CUDA_ERROR_OUT_OF_MEMORY"):
        TensorRTRunner(ENGINE, GPU, "trt")(frames(3))


def test_the_cpu_runs_no_engine() -> None:
    with pytest.raises(DeviceError, match="device='cpu': TensorRT engines run on NVIDIA GPUs only"):
        TensorRTRunner(ENGINE, Device("cpu"), "trt")


def test_no_driver(trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "probe_driver", lambda: Driver(None, (), "there is no NVIDIA driver"))
    with pytest.raises(DeviceError, match="device='cuda:0': there is no NVIDIA driver; use --device cpu or auto"):
        TensorRTRunner(ENGINE, GPU, "trt")


@pytest.mark.parametrize(
    ("product", "module", "extra"), [("trt", "tensorrt", "trt"), ("trt-rtx", "tensorrt_rtx", "rtx")]
)
def test_a_missing_product(monkeypatch: pytest.MonkeyPatch, product: Any, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"^{module}=.* {re.escape(install_command(extra))}"):
        TensorRTRunner(ENGINE, GPU, product)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_the_real_api_has_every_call_of_the_stand_in() -> None:
    import tensorrt_rtx as trt

    for fake, real in (
        (FakeEngine, trt.ICudaEngine),
        (FakeContext, trt.IExecutionContext),
        (FakeConfig, trt.IRuntimeConfig),
        (FakeCache, trt.IRuntimeCache),
    ):
        calls = {name: call for name, call in vars(fake).items() if inspect.isfunction(call) and name[0] != "_"}
        assert calls.keys() <= set(dir(real))
        for name, call in calls.items():
            # The bindings' documentation begins with the signatures.
            signatures = getattr(real, name).__doc__ or ""
            for argument in list(inspect.signature(call).parameters)[1:]:
                assert re.search(rf"{name}\(.*\b{ARGUMENTS.get(argument, argument)}\b", signatures), (name, argument)
    assert "device_memory_size_v2" in dir(trt.ICudaEngine)
    assert "engine_host_code_allowed" in dir(trt.Runtime)
    assert trt.ExecutionContextAllocationStrategy.USER_MANAGED is not None
    assert "deserialize_cuda_engine" in dir(trt.Runtime)
    assert {"ERROR", "INTERNAL_ERROR", "INFO"} <= set(dir(trt.ILogger))
    assert trt.TensorIOMode.INPUT is not None
    assert (trt.nptype(trt.DataType.UINT8), trt.nptype(trt.DataType.FLOAT)) == (np.uint8, np.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_a_real_engine_computes_what_onnx_runtime_computes(
    module: str, tmp_path: Path, tiny_model: Any, tiny_config: Any
) -> None:
    trt = pytest.importorskip(module)
    from vis4mer.devices.device import compute_capability
    from vis4mer_export.targets.engine_options import BatchProfile, EngineSettings
    from vis4mer_export.targets.engines import build_engine

    major, minor = compute_capability(GPU)
    if module == "tensorrt_rtx" and f"SM{major}{minor}" not in trt.ComputeCapability.__members__:
        pytest.skip(f"TensorRT for RTX does not run on sm{major}{minor}")
    product: Any = "trt" if module == "tensorrt" else "trt-rtx"
    graph, engine = tmp_path / "encoder.onnx", tmp_path / "encoder.engine"
    graph.write_bytes(tiny_model.onnx_encoder())
    profile = BatchProfile(2, 3, 4)
    settings = EngineSettings(product, profile, profile, GPU)
    build_engine(graph, engine, precision="fp32", profile=profile, settings=settings)
    stored = Graph(ENCODER, graph_interfaces(tiny_config)[ENCODER], engine.read_bytes())
    runner = TensorRTRunner(stored, GPU, product)
    for n in (1, 4, 9):
        batch = np.random.default_rng(n).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        np.testing.assert_allclose(runner(batch).numpy(), tiny_model.encode(batch), rtol=1e-4, atol=1e-5)
