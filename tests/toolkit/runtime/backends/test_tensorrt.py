"""The runner over stand-ins for the driver, whose device memory is the host's, and for TensorRT's Python API."""

import ctypes
import gc
import importlib.util
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

GPU = Device("cuda")
INTERFACE = GraphInterface(
    (TensorSpec("frames", "uint8", ("batch", 3)),), (TensorSpec("tokens", "float32", ("batch", 2)),)
)
ENGINE = Graph("encoder", INTERFACE, b"engine")


class FakeTensorRT:
    """An API whose engine maps frames uint8 [N, 3], at profile 2:4:4, to [N, 2]: a row's sum and its first element."""

    __name__, __version__ = "tensorrt", "10.0"
    TensorIOMode = SimpleNamespace(INPUT="in")

    class ILogger:
        ERROR, INTERNAL_ERROR, INFO = "error", "internal error", "info"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.outputs = ["tokens"]
        self.executes = True

    def nptype(self, dtype: str) -> Any:
        return {"uint8": np.uint8, "float32": np.float32}[dtype]

    def Runtime(self, log: Any) -> Any:  # noqa: N802
        def deserialize_cuda_engine(engine: bytes) -> Any:
            if engine != b"engine":
                log.log(log.INFO, "reading")
                log.log(log.ERROR, "Serialization assertion\nfailed")
                log.log(log.ERROR, "and then something else")
                return None
            return FakeEngine(self, log)

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)


class FakeEngine:
    SHAPES: ClassVar = {"frames": (-1, 3), "tokens": (-1, 2), "more": (-1, 2)}

    def __init__(self, trt: FakeTensorRT, log: Any) -> None:
        self.trt, self.log = trt, log
        self.names = ["frames", *trt.outputs]
        self.num_io_tensors = len(self.names)
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def get_tensor_name(self, i: int) -> str:
        return self.names[i]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "frames" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8" if name == "frames" else "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.SHAPES[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(2, 3), (4, 3), (4, 3)]

    def create_execution_context(self) -> "FakeEngine":
        return self

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "frames" and 2 <= shape[0] <= 4 and shape[1:] == (3,)

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        if not self.trt.executes:
            self.log.log(self.log.ERROR, "no memory left")
            return False
        self.trt.batches.append(self.shape[0])
        frames = (ctypes.c_uint8 * (3 * self.shape[0])).from_address(self.addresses["frames"])
        rows = np.frombuffer(frames, np.uint8).reshape(self.shape)
        tokens = np.stack([rows.sum(1), rows[:, 0]], axis=1).astype(np.float32)
        ctypes.memmove(self.addresses["tokens"], tokens.ctypes.data, tokens.nbytes)
        return True


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, driver: Any) -> FakeTensorRT:
    fake = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)  # type: ignore[arg-type]
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


def test_a_batch_on_the_device_stays_there(trt: FakeTensorRT, driver: Any) -> None:
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    batch = DeviceArray.empty((6, 3), np.dtype(np.uint8), GPU)
    ctypes.memmove(batch.address, frames(6).ctypes.data, batch.nbytes)
    result = runner(batch)
    assert set(driver.copies) == {"DtoD"}
    np.testing.assert_array_equal(result.numpy(), expected(frames(6)))


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
    with pytest.raises(BundleError, match=r"graph='encoder': takes frames uint8\[batch, 3\], not "):
        runner(batch)
    assert trt.batches == []


def test_memory_is_freed_with_the_runner(trt: FakeTensorRT, driver: Any) -> None:
    runner = TensorRTRunner(ENGINE, GPU, "trt")
    assert sorted(len(buffer) for buffer in driver.memory.values()) == [4 * 3, 4 * 2 * 4]
    del runner
    gc.collect()
    assert driver.memory == {}


def test_an_engine_that_cannot_be_loaded(trt: FakeTensorRT) -> None:
    with pytest.raises(DeviceError) as error:
        TensorRTRunner(Graph("encoder", INTERFACE, b"other"), GPU, "trt")
    assert str(error.value) == (
        "device='cuda:0': tensorrt 10.0 cannot load the engine encoder: Serialization assertion failed; "
        "engines are bound to the GPU type and the version they were built with; export on this machine"
    )


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
    with pytest.raises(
        DeviceError, match=r"encoder failed on a batch of shape \(3, 3\): no memory left; try a smaller"
    ):
        runner(frames(3))


@pytest.mark.parametrize("function", ["cuInit", "cuStreamCreate", "cuMemAllocAsync"])
def test_a_failing_driver(trt: FakeTensorRT, driver: Any, function: str) -> None:
    driver.fail = function
    with pytest.raises(DeviceError, match=f"device='cuda:0': {function} failed: CUDA_ERROR_OUT_OF_MEMORY"):
        TensorRTRunner(ENGINE, GPU, "trt")


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

    engine = {name for name in vars(FakeEngine) if not name.startswith("_") and name != "SHAPES"}
    assert engine <= {*dir(trt.ICudaEngine), *dir(trt.IExecutionContext)}
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
    from vis4mer_export.targets.engines import BatchProfile, build_engine

    major, minor = compute_capability(GPU)
    if module == "tensorrt_rtx" and f"SM{major}{minor}" not in trt.ComputeCapability.__members__:
        pytest.skip(f"TensorRT for RTX does not run on sm{major}{minor}")
    product: Any = "trt" if module == "tensorrt" else "trt-rtx"
    graph, engine = tmp_path / "encoder.onnx", tmp_path / "encoder.engine"
    graph.write_bytes(tiny_model.onnx_encoder())
    build_engine(graph, engine, product=product, precision="fp32", profile=BatchProfile(2, 3, 4))
    stored = Graph(ENCODER, graph_interfaces(tiny_config)[ENCODER], engine.read_bytes())
    runner = TensorRTRunner(stored, GPU, product)
    for n in (1, 4, 9):
        batch = np.random.default_rng(n).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        np.testing.assert_allclose(runner(batch).numpy(), tiny_model.encode(batch), rtol=1e-4, atol=1e-5)
