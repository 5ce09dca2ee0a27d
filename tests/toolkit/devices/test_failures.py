"""Messages of the libraries, as they raise or log them, and what a user can do about each."""

import pytest

from vis4mer.devices.device import Device
from vis4mer.devices.failures import failed_run, remedy

OUT_OF_MEMORY = [
    "CUDA out of memory. Tried to allocate 1.55 GiB. GPU 0 has a total capacity of 7.79 GiB",  # PyTorch
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. "
    "Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) "
    "Failed to allocate memory for requested buffer of size 1549271040",
    "bfc_arena.cc:368 Available memory of 104857600 is smaller than requested bytes of 1549271040",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=host ; expr=cudaMalloc((void**)&p, size);",
    "std::bad_alloc",
    "IExecutionContext::enqueueV3: Error Code 2: OutOfMemory (Requested size was 1549271040 bytes.)",  # TensorRT
    "device='cuda:0': cuMemAllocAsync failed: CUDA_ERROR_OUT_OF_MEMORY",  # this package
]


@pytest.mark.parametrize("reason", OUT_OF_MEMORY)
def test_only_a_batch_that_can_be_smaller_is_to_be(reason: str) -> None:
    assert remedy(reason, rows=2) == "try a smaller --batch-size"
    assert remedy(reason, rows=1) == remedy(reason) == "free memory on the device, or use a smaller model"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "Status Message: cuDNN is unavailable for CUDA Execution Provider: cuDNN library was not found",
            "install cuDNN: 'vis4mer doctor' lists what is missing",
        ),
        (
            "Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: "
            "cannot open shared object file: No such file or directory",
            "install cuDNN: 'vis4mer doctor' lists what is missing",
        ),
        ("Could not load library libcudnn_graph.so.9.", "install cuDNN: 'vis4mer doctor' lists what is missing"),
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            "install the library: 'vis4mer doctor' lists what is missing",
        ),
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0",
            "install a newer NVIDIA driver: 'vis4mer doctor' states which",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 12020).",
            "install a newer NVIDIA driver: 'vis4mer doctor' states which",
        ),
        (
            "CUDA error: the provided PTX was compiled with an unsupported toolchain.",
            "install a newer NVIDIA driver: 'vis4mer doctor' states which",
        ),
        ("Torch not compiled with CUDA enabled", "install its build for CUDA, or use --device cpu or auto"),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "use a build of the library, or an export, that includes this type of GPU",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for MatMul(13)",
            "export it with --precision fp32 for this device",
        ),
        ("CUDNN failure 8: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=host", ""),
        ("CUDA error: an illegal memory access was encountered", ""),
        ("Got invalid dimensions for input: x", ""),
    ],
)
def test_the_remedy_fits_the_cause(reason: str, expected: str) -> None:
    assert remedy(reason, rows=32) == expected


def test_an_unexplained_failure_suggests_nothing() -> None:
    error = failed_run("scene", Device("cuda", 1), (4, 5), "an illegal memory access was encountered")
    assert str(error) == (
        "device='cuda:1': scene failed on a batch of shape (4, 5): an illegal memory access was encountered"
    )
