"""Every format on machines whose GPU cannot be used, each for another reason.

With ``auto``, the model runs on the CPU and its predictions state the reason. With an explicit device, and for what is
compiled for GPUs alone, one line names the remedy. The libraries are stand-ins where they would touch a GPU, and fail
with the messages of the real ones.
"""

import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import vis4mer
from vis4mer.config import ModelConfig
from vis4mer.devices.device import Device, Driver
from vis4mer.errors import DeviceError
from vis4mer.packages import install_command
from vis4mer.runtime.backends import tensorrt as tensorrt_backend
from vis4mer.runtime.backends.eager import EagerRunner
from vis4mer.runtime.backends.onnx import import_onnxruntime
from vis4mer.runtime.bundle import BundleWriter

NO_DRIVER = "there is no NVIDIA driver (libcuda.so.1)"
OUT_OF_MEMORY = "free memory on the device, or use a smaller model"
DOCTOR_DRIVER = "install a newer NVIDIA driver: 'vis4mer doctor' states which"
DOCTOR_CUDNN = "install cuDNN: 'vis4mer doctor' lists what is missing"
FOR_CUDA = "or use --device cpu or auto"


class Fault(NamedTuple):
    """A message of a library, and what this package makes of it.

    Attributes:
        message: Message as the library raises it.
        remedy: End of the error.
    """

    message: str
    remedy: str


class Case(NamedTuple):
    """One format on one machine."""

    format: str
    machine: str
    fault: Fault


CASES = [
    *(
        Case(format, "no GPU", Fault(NO_DRIVER, "use --device cpu or auto"))
        for format in ("onnx", "torchscript", "pt2", "pt2-cuda", "checkpoint", "trt", "trt-rtx")
    ),
    Case(
        "onnx",
        "no cuDNN",
        Fault(
            "Error in execution: Non-zero status code returned while running Conv node. Name:'node_conv2d' Status "
            "Message: /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_kernel.h:296 static cudnnContext* "
            "onnxruntime::cuda::CudaKernel::RequireCudnnHandle(cudnnHandle_t) [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED "
            ": cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen failed for libcudnn.so: "
            "libcudnn.so: cannot open shared object file: No such file or directory",
            DOCTOR_CUDNN,
        ),
    ),
    *(
        Case(
            format,
            "no cuDNN",
            Fault("Could not load library libcudnn_cnn.so.9. Error: libcudnn_cnn.so.9: cannot open", DOCTOR_CUDNN),
        )
        for format in ("torchscript", "pt2-cuda", "checkpoint")
    ),
    Case("onnx", "built for the CPU", Fault("this ONNX Runtime is built without CUDA", FOR_CUDA)),
    *(
        Case(format, "built for the CPU", Fault("Torch not compiled with CUDA enabled", FOR_CUDA))
        for format in ("torchscript", "pt2-cuda", "checkpoint")
    ),
    Case(
        "onnx",
        "driver too old",
        Fault(
            "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 35: CUDA driver version is insufficient for CUDA runtime "
            "version ; GPU=0 ; hostname=host ; expr=cudaSetDevice(info_.device_id);",
            DOCTOR_DRIVER,
        ),
    ),
    *(
        Case(
            format,
            "driver too old",
            Fault(
                "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver",
                DOCTOR_DRIVER,
            ),
        )
        for format in ("torchscript", "pt2-cuda", "checkpoint")
    ),
    *(
        Case(format, "driver too old", Fault("CUDA initialization failure with error: 35", ""))
        for format in ("trt", "trt-rtx")
    ),
    Case("pt2", "another device", Fault("was compiled for cpu", "run it with --device cpu, or export it with")),
    *(
        Case(
            format,
            "another device",
            Fault(
                "The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.9", ""
            ),
        )
        for format in ("trt", "trt-rtx")
    ),
    Case(
        "onnx",
        "out of memory",
        Fault(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. "
            "Name:'MatMul_3' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* "
            "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory "
            "for requested buffer of size 1549271040",
            OUT_OF_MEMORY,
        ),
    ),
    *(
        Case(format, "out of memory", Fault("CUDA out of memory. Tried to allocate 1.44 GiB.", OUT_OF_MEMORY))
        for format in ("torchscript", "pt2-cuda", "checkpoint")
    ),
    *(
        Case(format, "out of memory", Fault("Error Code 2: OutOfMemory (Requested size was 1549271040 bytes.)", ""))
        for format in ("trt", "trt-rtx")
    ),
]


# Formats that a CPU cannot run, and the reason.
GPU_ONLY = {
    "trt": "TensorRT engines run on NVIDIA GPUs only",
    "trt-rtx": "TensorRT engines run on NVIDIA GPUs only",
    "pt2-cuda": "encoder was compiled for cuda; run it with --device cuda, or export it with --device cpu",
}


def name(case: Case) -> str:
    return f"{case.format}-{case.machine}"


@pytest.fixture(scope="session")
def models(
    tiny_bundle: Path,
    tiny_model: Any,
    tiny_config: ModelConfig,
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Paths of a model in every format; the programs of PyTorch compute what the ONNX bundle's graphs compute."""
    root = tmp_path_factory.mktemp("formats")
    programs = _programs(tiny_model)

    def bundle(name: str, format: str, suffix: str, file: Callable[[str], bytes]) -> Path:
        with BundleWriter(root / name) as writer:
            for graph in ("encoder", *tiny_config.heads):
                writer.path(f"{graph}.{suffix}").write_bytes(file(graph))
            writer.commit(format=format, precision="fp32", model=tiny_config)
        return root / name

    return {
        "onnx": tiny_bundle,
        "checkpoint": checkpoint,
        "torchscript": bundle("torchscript", "torchscript", "ts", programs.__getitem__),
        "pt2": bundle("pt2", "pt2", "pt2", lambda graph: _package("cpu", programs[graph])),
        "pt2-cuda": bundle("pt2-cuda", "pt2", "pt2", lambda graph: _package("cuda", programs[graph])),
        "trt": bundle("trt", "trt", "engine", lambda graph: b"engine"),
        "trt-rtx": bundle("trt-rtx", "trt-rtx", "engine", lambda graph: b"engine"),
    }


def _programs(model: Any) -> dict[str, bytes]:
    torch = pytest.importorskip("torch")
    weights = torch.from_numpy(model.to_tokens)

    def encode(frames: Any) -> Any:
        return ((frames.float().mean((1, 2)) / 255) @ weights).reshape(-1, 2, 4)

    def head(name: str) -> Callable[[Any], Any]:
        matrix = torch.from_numpy(model.to_logits[name])
        return lambda features: features.mean(1) @ matrix

    examples = {"encoder": (encode, torch.zeros(2, 8, 8, 3, dtype=torch.uint8))}
    examples |= {name: (head(name), torch.zeros(2, 10, 4)) for name in model.to_logits}
    programs = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        for graph, (function, example) in examples.items():
            stored = io.BytesIO()
            torch.jit.save(torch.jit.trace(function, (example,)), stored)
            programs[graph] = stored.getvalue()
    return programs


def _package(device: str, program: bytes) -> bytes:
    """A package with the metadata of AOTInductor, and a TorchScript program in place of compiled code."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        metadata = {"AOTI_DEVICE_KEY": device, "AOTI_PLATFORM": "linux", "AOTI_COMPUTE_CAPABILITY": ""}
        archive.writestr("encoder/data/aotinductor/model/c1.wrapper_metadata.json", json.dumps(metadata))
        archive.writestr("program", program)
    return stored.getvalue()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, driver: Any) -> Callable[[Case], None]:
    """Makes this machine one that has a GPU, in which a case's fault occurs."""

    def prepare(case: Case) -> None:
        gpus = () if case.machine == "no GPU" else ("a GPU",)
        found = Driver("13.0" if gpus else None, gpus, "" if gpus else NO_DRIVER)
        monkeypatch.setattr("vis4mer.devices.device.probe_driver", lambda: found)
        if case.format == "onnx":
            _break_onnxruntime(monkeypatch, case)
        elif case.format.startswith("trt"):
            _break_tensorrt(monkeypatch, case)
        else:
            _break_torch(monkeypatch, case)

    return prepare


def _break_onnxruntime(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    runtime = import_onnxruntime()
    open_session = runtime.InferenceSession

    class GpuSession:
        """A session that is open on a GPU, and fails when it runs."""

        def __init__(self, data: bytes, options: Any) -> None:
            self._session = open_session(data, options, providers=["CPUExecutionProvider"])
            self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs

        def io_binding(self) -> Any:
            return SimpleNamespace(bind_input=lambda *_: None, bind_output=lambda *_: None)

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            raise RuntimeError(case.fault.message)

    def session(data: bytes, options: Any, providers: list[Any], enable_fallback: bool) -> Any:
        if providers == ["CPUExecutionProvider"]:
            return open_session(data, options, providers=providers)
        (_, settings), _ = providers
        assert settings["user_compute_stream"] == 7, "the stream of the stand-in driver"
        if case.machine == "driver too old":
            raise RuntimeError(case.fault.message)
        return GpuSession(data, options)

    built = ["CPUExecutionProvider"] if case.machine == "built for the CPU" else ["CUDAExecutionProvider"]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: built)
    monkeypatch.setattr(runtime, "preload_dlls", lambda directory: None, raising=False)
    monkeypatch.setattr(runtime, "InferenceSession", session)


def _break_torch(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    torch = pytest.importorskip("torch")
    from torch import nn

    zeros, load_program, move = torch.zeros, torch.jit.load, nn.Module.to

    def fake_zeros(*sizes: Any, **settings: Any) -> Any:
        if not str(settings.get("device", "cpu")).startswith("cuda"):
            return zeros(*sizes, **settings)
        refuse()
        return zeros(*sizes)

    def refuse() -> None:
        if case.machine == "built for the CPU":
            raise AssertionError(case.fault.message)
        if case.machine == "driver too old":
            raise RuntimeError(case.fault.message)

    def fake_move(self: nn.Module, device: str) -> nn.Module:
        if device.startswith("cuda"):
            refuse()
            return self
        return move(self, device)

    def load_package(package: io.BytesIO, device_index: int) -> Any:
        with zipfile.ZipFile(package) as archive:
            (record,) = (file for file in archive.namelist() if file.endswith("_metadata.json"))
            compiled_for = json.loads(archive.read(record))["AOTI_DEVICE_KEY"]
            if (compiled_for == "cpu") != (device_index == -1):
                raise RuntimeError(f"Incorrect device passed to aoti_runner_{compiled_for}: cuda:0")
            return load_program(io.BytesIO(archive.read("program")))

    def run_on_device(self: EagerRunner, batch: Any) -> Any:
        raise RuntimeError(case.fault.message)

    monkeypatch.setattr(torch, "zeros", fake_zeros)
    monkeypatch.setattr(torch.jit, "load", lambda data, map_location: load_program(data))
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load_package)
    monkeypatch.setattr(nn.Module, "to", fake_move)
    monkeypatch.setattr(EagerRunner, "_run_on_device", run_on_device)
    monkeypatch.setattr("vis4mer.devices.cuda.CudaStream.wait_for", lambda self, stream: None)
    monkeypatch.setattr("vis4mer.runtime.precision.bf16_units", lambda device: None)


def _break_tensorrt(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    real = tensorrt_backend.TensorRTRunner

    class Engine(real):  # type: ignore[misc, valid-type]
        """An engine whose library fails on a GPU; on the CPU, the real class answers."""

        def __init__(self, graph: Any, device: Device, *rest: Any, **more: Any) -> None:
            if device.kind == "cpu":
                super().__init__(graph, device, *rest, **more)
            elif case.machine != "out of memory":
                raise DeviceError.of("device", str(device), f"cannot load {graph.name}: {case.fault.message}")

        def __call__(self, batch: Any, /) -> Any:
            raise DeviceError.of("device", "cuda:0", f"encoder failed: {case.fault.message}")

    monkeypatch.setattr(tensorrt_backend, "TensorRTRunner", Engine)


def quoted(fault: Fault) -> str:
    """The part of a message that has to reach the user; places in sources do not."""
    return fault.message.rpartition(") ")[2][:120]


@pytest.mark.parametrize("case", [case for case in CASES if case.format not in GPU_ONLY], ids=name)
def test_auto_ends_on_the_cpu_and_the_prediction_states_why(
    case: Case, models: Any, movie: Path, machine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    machine(case)
    with caplog.at_level(logging.WARNING):
        prediction = vis4mer.load(models[case.format], device="auto")(movie, video_decoder="pyav")
    assert prediction.device == "cpu"
    assert quoted(case.fault) in prediction.device_reason
    assert "\n" not in prediction.device_reason
    logged = [message for message in caplog.messages if message.startswith("running on the CPU: ")]
    assert logged == ([] if case.machine == "no GPU" else [f"running on the CPU: {prediction.device_reason}"])


@pytest.mark.parametrize("case", CASES, ids=name)
def test_an_explicit_gpu_is_one_line_with_the_remedy(case: Case, models: Any, machine: Any) -> None:
    machine(case)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError) as error:
            vis4mer.load(models[case.format], device=device)
        message = str(error.value)
        assert quoted(case.fault) in message
        assert case.fault.remedy in message.rpartition("; ")[2] or not case.fault.remedy
        assert "\n" not in message
        assert "--batch-size" not in message, "one row cannot be a smaller batch"


@pytest.mark.parametrize("case", [case for case in CASES if case.format in GPU_ONLY], ids=name)
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_is_compiled_for_gpus_is_one_line_with_both_reasons(
    case: Case, device: str, models: Any, machine: Any
) -> None:
    machine(case)
    with pytest.raises(DeviceError) as error:
        vis4mer.load(models[case.format], device=device)
    message = str(error.value)
    assert GPU_ONLY[case.format] in message
    assert (quoted(case.fault) in message) == (device == "auto"), "the reason why the GPU was not used"
    assert message.startswith(f"device={device!r}: ")
    assert "\n" not in message


def test_libraries_that_the_session_silently_does_without(
    models: Any, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime drops a provider whose libraries cannot be loaded, and opens the session with the others."""
    machine(Case("onnx", "out of memory", Fault("never reached", "")))
    runtime = import_onnxruntime()
    opened = runtime.InferenceSession

    def without_cuda(*arguments: Any, **settings: Any) -> Any:
        session = opened(*arguments, **settings)
        monkeypatch.setattr(session, "get_providers", lambda: ["CPUExecutionProvider"], raising=False)
        return session

    monkeypatch.setattr(runtime, "InferenceSession", without_cuda)
    with pytest.raises(DeviceError) as error:
        vis4mer.load(models["onnx"], device="cuda")
    assert str(error.value) == (
        "device='cuda:0': ONNX Runtime finds no matching CUDA and cuDNN libraries; "
        f"{install_command('cuda')}, or use --device cpu or auto"
    )
