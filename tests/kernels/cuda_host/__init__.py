"""The CUDA ops' device code, compiled for the host and run thread by thread: a test of correctness without a GPU."""

import ctypes
import subprocess
from pathlib import Path

import torch
from torch import Tensor

_FOLDER = Path(__file__).parent
_SOURCES = _FOLDER.parents[2] / "kernels" / "csrc" / "cuda"
_TYPES = {torch.float64: b"d", torch.float32: b"f", torch.bfloat16: b"b", torch.float16: b"h"}


def compile_host_ops(compiler: str, folder: Path) -> "HostOps":
    """Compiles the device code as C++ into `folder`."""
    library = folder / "cuda_host_ops.so"
    include = Path(torch.__file__).parent / "include"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", "-Werror", "-Wno-unknown-pragmas"]
    folders = ["-isystem", str(include), f"-I{_SOURCES}"]
    subprocess.run([compiler, *flags, *folders, str(_FOLDER / "ops.cpp"), "-o", str(library)], check=True)
    return HostOps(ctypes.CDLL(str(library)))


class HostOps:
    """The ops with the interface of their CUDA implementation; outputs hold NaN before a call.

    Args:
        library: Library from `compile_host_ops`.
        descending: Whether threads and thread blocks run from last to first.
        block: Samples per block of long_conv, 256 or 1024.
    """

    def __init__(self, library: ctypes.CDLL, descending: bool = False, block: int = 256) -> None:
        self._library = library
        self._descending = descending
        self._block = block

    def variant(self, descending: bool = False, block: int = 256) -> "HostOps":
        return HostOps(self._library, descending, block)

    def long_conv(self, u: Tensor, kernel: Tensor, D: Tensor) -> Tensor:
        y = _unset(u)
        self._long_conv([u, kernel, D, None], [y])
        return y

    def long_conv_backward(self, grad: Tensor, u: Tensor, kernel: Tensor, D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = _unset(u), _unset(kernel), _unset(D)
        self._long_conv([u, kernel, D, grad], list(outputs))
        return outputs

    def ssm_spectrum(self, *inputs: Tensor) -> Tensor:
        dt, beta = inputs[0], inputs[4]
        result = _unset(torch.empty(len(dt), len(beta), 2, dtype=dt.dtype))
        self._ssm_spectrum([*inputs, None], [result])
        return result

    def ssm_spectrum_backward(self, grad: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = _unset(inputs[0]), _unset(inputs[1]), _unset(inputs[2])
        self._ssm_spectrum([*inputs, grad], list(outputs))
        return outputs

    def _long_conv(self, inputs: list[Tensor | None], outputs: list[Tensor]) -> None:
        u, kernel = inputs[0], inputs[1]
        assert u is not None and kernel is not None
        sizes = (ctypes.c_int64 * 4)(*u.shape, kernel.shape[1])
        arguments = ctypes.c_char(_TYPES[u.dtype]), ctypes.c_int(self._block), ctypes.c_bool(self._descending)
        self._library.long_conv(sizes, *arguments, _pointers(inputs), _pointers(outputs))

    def _ssm_spectrum(self, inputs: list[Tensor | None], outputs: list[Tensor]) -> None:
        poles, beta = inputs[1], inputs[4]
        assert poles is not None and beta is not None
        sizes = (ctypes.c_int64 * 3)(*poles.shape[:2], len(beta))
        arguments = ctypes.c_char(_TYPES[poles.dtype]), ctypes.c_bool(self._descending)
        self._library.ssm_spectrum(sizes, *arguments, _pointers(inputs), _pointers(outputs))


def _unset(like: Tensor) -> Tensor:
    return torch.full_like(like, torch.nan)


def _pointers(tensors: list[Tensor | None] | list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    assert all(tensor is None or tensor.is_contiguous() for tensor in tensors)
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))
