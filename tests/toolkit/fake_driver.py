"""A stand-in for the CUDA driver: its device memory is the host's, and it fails on what a GPU would not forgive."""

# ruff: noqa: N802 (the methods have the driver's names)

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vis4mer.devices import cuda

STREAM = 7
OTHER_STREAM = 9  # of another library
_KERNELS = 1000  # the first handle of a function
_OUT_OF_MEMORY = 2
_ALIGNMENT = 256  # bytes
_EVENTS = 10_000  # the first handle of an event, less one

# Calls that need no current context.
_FREE = {
    "cuInit",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuCtxSetCurrent",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuDeviceGetDefaultMemPool",
    "cuGetErrorName",
}


@dataclass(frozen=True)
class HostKernel:
    """A kernel's host version.

    Attributes:
        types: C types of the kernel's parameters.
        run: Function of the grid, the block and the parameters' values.
    """

    types: tuple[Any, ...]
    run: Callable[..., None]


def _aligned_buffer(size: int) -> Any:
    """Returns `size` bytes at a multiple of 256, as the driver allocates them."""
    whole = ctypes.create_string_buffer(size + _ALIGNMENT)
    offset = -ctypes.addressof(whole) % _ALIGNMENT
    return (ctypes.c_char * size).from_buffer(whole, offset)


class FakeDriver:
    """One GPU, as ctypes calls its driver.

    Every call checks its arguments against the declared prototype, and that the calling thread has a current context.
    Memory may be touched only while it is allocated; what is released is overwritten.

    Attributes:
        memory: Live device memory by address.
        copies: Kinds of the copies so far: ``HtoD``, ``DtoH`` or ``DtoD``.
        bytes: Bytes copied by kind.
        calls: Number of calls of each function.
        allocations: Number of allocations that no pool could serve, of device and page-locked memory.
        kernels: Host versions of kernels by name; only these can be loaded.
        images: Device code loaded so far.
        fail: Name of a function that fails.
        pools: Whether the GPU supports stream-ordered memory.
        deferred: Whether work on the stream waits until it is synchronised, as late as a GPU may do it. Stand-ins of
            other libraries queue their work by `queue`.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.copies: list[str] = []
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.allocations = 0
        self.kernels: dict[str, HostKernel] = {}
        self.images: list[bytes] = []
        self.fail = ""
        self.pools = True
        self.deferred = False
        self._pool: list[Any] = []
        self._pinned: dict[int, Any] = {}
        self._queue: list[Callable[[], None]] = []
        self._names: list[str] = []
        self._events: dict[int, int] = {}  # work queued before the event
        self._done = 0
        self._local = threading.local()
        self._lock = threading.RLock()

    def __getattr__(self, function: str) -> Callable[..., int]:
        if function not in cuda._PROTOTYPES:
            raise AttributeError(function)
        types, action = cuda._PROTOTYPES[function], getattr(type(self), f"_{function}")

        def call(*arguments: Any) -> int:
            assert len(arguments) == len(types), f"{function} takes {len(types)} arguments"
            for argument, kind in zip(arguments, types, strict=True):
                kind.from_param(argument)
            assert function in _FREE or self.contexts[-1], f"{function} without a current context"
            with self._lock:
                self.calls[function] += 1
                if function == self.fail:
                    return _OUT_OF_MEMORY
                action(self, *(a.value if isinstance(a, ctypes._SimpleCData) else a for a in arguments))
            return 0

        return call

    @property
    def contexts(self) -> list[Any]:
        """The calling thread's stack of contexts."""
        if not hasattr(self._local, "contexts"):
            self._local.contexts = [None]
        stack: list[Any] = self._local.contexts
        return stack

    def require(self, address: int, size: int) -> None:
        """Fails unless a range of device memory is allocated."""
        inside = [start for start, block in self.memory.items() if start <= address <= start + len(block) - size]
        assert inside, f"{size} bytes at {address:#x} are not device memory"

    def queue(self, work: Callable[[], None]) -> None:
        """Puts work on the stream."""
        self._queue.append(work)
        if not self.deferred:
            self.run_queued()

    def run_queued(self, through: int | None = None) -> None:
        """Does the queued work, all of it or up to a position."""
        while self._done < (len(self._queue) if through is None else through):
            work, self._queue[self._done] = self._queue[self._done], lambda: None
            self._done += 1
            work()

    def _cuInit(self, flags: int) -> None:
        pass

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> None:
        assert attribute == 115
        value._obj.value = int(self.pools)

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:
        context._obj.value = 1 + device

    def _cuCtxSetCurrent(self, context: int) -> None:
        assert context == 1
        self.contexts[-1] = context

    def _cuCtxPushCurrent_v2(self, context: int) -> None:
        assert context == 1
        self.contexts.append(context)

    def _cuCtxPopCurrent_v2(self, context: Any) -> None:
        assert len(self.contexts) > 1, "nothing was pushed"
        context._obj.value = self.contexts.pop()

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:
        assert flags == 1
        stream._obj.value = STREAM

    def _cuStreamSynchronize(self, stream: int) -> None:
        assert stream == STREAM
        self.run_queued()

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        assert (stream, flags) == (STREAM, 0) and event in self._events

    def _cuEventCreate(self, event: Any, flags: int) -> None:
        assert flags == 2
        event._obj.value = _EVENTS + self.calls["cuEventCreate"]
        self._events[event._obj.value] = 0

    def _cuEventRecord(self, event: int, stream: int) -> None:
        assert event in self._events and stream in (STREAM, OTHER_STREAM)
        self._events[event] = len(self._queue)

    def _cuEventSynchronize(self, event: int) -> None:
        self.run_queued(self._events[event])

    def _cuEventDestroy_v2(self, event: int) -> None:
        del self._events[event]

    def _cuDeviceGetDefaultMemPool(self, pool: Any, device: int) -> None:
        assert self.pools
        pool._obj.value = 5

    def _cuMemPoolSetAttribute(self, pool: int, attribute: int, value: Any) -> None:
        assert (pool, attribute, value._obj.value) == (5, 4, 2**64 - 1)

    def _cuMemAllocAsync(self, address: Any, size: int, stream: int) -> None:
        assert self.pools and stream == STREAM
        fitting = [block for block in self._pool if len(block) == size]
        if fitting:
            self._pool.remove(fitting[0])
        self._allocate(address, size, fitting[0] if fitting else None)

    def _cuMemFreeAsync(self, address: int, stream: int) -> None:
        assert self.pools and stream == STREAM
        self.require(address, 1)

        def release() -> None:
            block = self.memory.pop(address)
            ctypes.memset(block, 0xDD, len(block))
            self._pool.append(block)

        self.queue(release)

    def _cuMemAlloc_v2(self, address: Any, size: int) -> None:
        assert not self.pools
        self._allocate(address, size, None)

    def _cuMemFree_v2(self, address: int) -> None:
        self.run_queued()  # the driver waits for the GPU
        block = self.memory.pop(address)
        ctypes.memset(block, 0xDD, len(block))

    def _allocate(self, address: Any, size: int, block: Any) -> None:
        assert size > 0
        if block is None:
            self.allocations += 1
            block = _aligned_buffer(size)
        ctypes.memset(block, 0xFF, size)
        address._obj.value = ctypes.addressof(block)
        self.memory[ctypes.addressof(block)] = block

    def _cuMemHostAlloc(self, address: Any, size: int, flags: int) -> None:
        self.allocations += 1
        block = ctypes.create_string_buffer(size)
        address._obj.value = ctypes.addressof(block)
        self._pinned[ctypes.addressof(block)] = block

    def _cuMemFreeHost(self, address: int) -> None:
        del self._pinned[address]

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, size: int, stream: int) -> None:
        assert source in self._pinned and size <= len(self._pinned[source]), "the source is not page-locked"
        self._copy("HtoD", target, source, size, stream)

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy("DtoH", target, source, size, stream)

    def _cuMemcpyDtoDAsync_v2(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy("DtoD", target, source, size, stream)

    def _copy(self, kind: str, target: int, source: int, size: int, stream: int) -> None:
        assert stream == STREAM
        self.copies.append(kind)
        self.bytes[kind] += size

        def copy() -> None:
            if kind.endswith("D"):
                self.require(target, size)
            if kind.startswith("D"):
                self.require(source, size)
            ctypes.memmove(target, source, size)

        self.queue(copy)

    def _cuMemsetD8Async(self, target: int, value: int, size: int, stream: int) -> None:
        assert stream == STREAM

        def clear() -> None:
            self.require(target, size)
            ctypes.memset(target, value, size)

        self.queue(clear)

    def _cuModuleLoadData(self, module: Any, image: bytes) -> None:
        self.images.append(image)
        module._obj.value = len(self.images)

    def _cuModuleGetFunction(self, function: Any, module: int, name: bytes) -> None:
        assert name in self.images[module - 1], f"the code has no function {name!r}"
        assert name.decode() in self.kernels, f"{name!r} has no host version"
        self._names.append(name.decode())
        function._obj.value = _KERNELS + len(self._names) - 1

    def _cuLaunchKernel(self, kernel: int, *arguments: Any) -> None:
        grid, block, (shared, stream, pointers, extra) = arguments[:3], arguments[3:6], arguments[6:]
        assert (shared, stream, extra) == (0, STREAM, None)
        assert all(size >= 1 for size in (*grid, *block)) and grid[1] <= 65535 and grid[2] <= 65535
        assert block[0] * block[1] * block[2] <= 1024
        host = self.kernels[self._names[kernel - _KERNELS]]
        # The driver copies the parameters before it returns.
        values = [kind.from_buffer_copy(kind.from_address(at)) for kind, at in zip(host.types, pointers, strict=True)]
        self.queue(lambda: host.run(grid, block, *values))

    def _cuGetErrorName(self, status: int, name: Any) -> None:
        assert status == _OUT_OF_MEMORY
        name._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"
