"""Remedies for failures of a device, found in the messages of the libraries that report them.

None of the libraries has a code for each cause: ONNX Runtime raises one type of exception for all of them, PyTorch
mostly RuntimeError, and TensorRT writes to a log. So the message decides. The tests hold messages of each library.
"""

import re

from vis4mer.devices.device import Device
from vis4mer.errors import DeviceError
from vis4mer.text import first_line

# "out of memory", CUDA_ERROR_OUT_OF_MEMORY, std::bad_alloc, CUBLAS_STATUS_ALLOC_FAILED, ONNX Runtime's arenas, and
# PyTorch on the CPU, in this order.
_OUT_OF_MEMORY = re.compile(
    r"out[ _]?of[ _]?memory|bad[_ ]alloc|alloc(ation)?_failed"
    r"|failed to allocate memory|smaller than requested bytes|(can't|cannot|not enough) (allocate )?memory",
    re.IGNORECASE,
)
_DOCTOR = "'vis4mer doctor' lists what is missing"

# The first match counts: a message about an absent cuDNN may also match the pattern of absent libraries in general.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"cudnn[^;]*(unavailable|not available|not found|cannot open)|(could not|cannot|unable to) load[^;]*cudnn",
        "install cuDNN: 'vis4mer doctor' lists what is missing",
    ),
    (
        r"cannot open shared object file|failed to load library",
        "install the library: 'vis4mer doctor' lists what is missing",
    ),
    (
        r"driver[^;]*(too old|insufficient)|insufficient[ _]driver|unsupported[ _](ptx|toolchain)",
        "install a newer NVIDIA driver: 'vis4mer doctor' states which",
    ),
    (r"not (compiled|built) with cuda|built without cuda", "install its build for CUDA, or use --device cpu or auto"),
    (r"no kernel image|no_binary_for_gpu", "use a build of the library, or an export, that includes this type of GPU"),
    # ONNX Runtime's CPU provider has no kernels for bf16 products, for example.
    (r"not_implemented", "export it with --precision fp32 for this device"),
)


def remedy(reason: str, rows: int = 1) -> str:
    """Returns the remedy for a library's message, as an imperative; empty if the message shows no cause.

    Args:
        reason: Message of the library that failed.
        rows: Rows of the batch that failed. A load, like one row, cannot be made smaller.
    """
    if _OUT_OF_MEMORY.search(reason):
        return "try a smaller --batch-size" if rows > 1 else "free memory on the device, or use a smaller model"
    return next((text for pattern, text in _REMEDIES if re.search(pattern, reason, re.IGNORECASE)), "")


def failed_run(graph: str, device: Device, shape: tuple[int, ...], reason: str) -> DeviceError:
    """Builds the error for a graph that failed on a batch.

    Args:
        graph: Name of the graph.
        device: Device that ran it.
        shape: Shape of the batch.
        reason: Message of the library; its first line is quoted.

    Returns:
        The error, for the caller to raise.
    """
    rule = f"{graph} failed on a batch of shape {shape}: {first_line(reason)}"
    return DeviceError.of("device", str(device), rule, remedy(reason, rows=shape[0]))
