"""A stand-in for the driver's library, whose device memory is the host's."""

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from vis4mer.runtime import cuda
from vis4mer.runtime.device import Driver


class FakeDriver:
    """The calls that this package makes of the driver, as ctypes makes them; `fail` names one that fails."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.copies: list[str] = []
        self.fail = ""

    def _result(self, function: str) -> int:
        return 2 if function == self.fail else 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._result("cuInit")

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:  # noqa: N802
        context._obj.value = 1 + device
        return self._result("cuDevicePrimaryCtxRetain")

    def cuCtxSetCurrent(self, context: Any) -> int:  # noqa: N802
        assert context.value == 1
        return self._result("cuCtxSetCurrent")

    def cuStreamCreate(self, stream: Any, flags: int) -> int:  # noqa: N802
        stream._obj.value = 7
        return self._result("cuStreamCreate")

    def cuStreamDestroy_v2(self, stream: Any) -> int:  # noqa: N802
        return self._result("cuStreamDestroy_v2")

    def cuStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        assert stream.value == 7
        return self._result("cuStreamSynchronize")

    def cuMemAlloc_v2(self, address: Any, size: int) -> int:  # noqa: N802
        buffer = ctypes.create_string_buffer(b"\xff" * size, size)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return self._result("cuMemAlloc_v2")

    def cuMemFree_v2(self, address: int) -> int:  # noqa: N802
        del self.memory[address]
        return self._result("cuMemFree_v2")

    def cuMemcpyHtoDAsync_v2(self, target: int, source: int, size: int, stream: Any) -> int:  # noqa: N802
        return self._copy("HtoD", target, source, size)

    def cuMemcpyDtoHAsync_v2(self, target: int, source: int, size: int, stream: Any) -> int:  # noqa: N802
        return self._copy("DtoH", target, source, size)

    def cuMemcpyDtoDAsync_v2(self, target: int, source: int, size: int, stream: Any) -> int:  # noqa: N802
        return self._copy("DtoD", target, source, size)

    def cuMemsetD8Async(self, target: int, value: int, size: int, stream: Any) -> int:  # noqa: N802
        self._require_allocated(target, size)
        ctypes.memset(target, value, size)
        return self._result("cuMemsetD8Async")

    def cuGetErrorName(self, status: int, name: Any) -> int:  # noqa: N802
        name._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"
        return self._result("cuGetErrorName")

    def _copy(self, kind: str, target: int, source: int, size: int) -> int:
        if kind.endswith("D"):
            self._require_allocated(target, size)
        if kind.startswith("D"):
            self._require_allocated(source, size)
        ctypes.memmove(target, source, size)
        self.copies.append(kind)
        return self._result(f"cuMemcpy{kind}Async_v2")

    def _require_allocated(self, address: int, size: int) -> None:
        inside = [start for start, buffer in self.memory.items() if start <= address <= start + len(buffer) - size]
        assert inside, f"{size} bytes at {address:#x} are not device memory"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A machine with one GPU, as far as this package's own calls go."""
    fake = FakeDriver()
    monkeypatch.setattr(cuda, "load_driver", lambda: fake)
    monkeypatch.setattr(cuda, "probe_driver", lambda: Driver("13.0", ("a GPU",), ""))
    cuda.copy_stream.cache_clear()
    yield fake
    cuda.copy_stream.cache_clear()
