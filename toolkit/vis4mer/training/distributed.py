"""The processes that train one head together, each on its share of every batch.

`torchrun` starts them and connects them through environment variables. Without it there is one process, and everything
here does nothing.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, RandomSampler, Sampler

from vis4mer.devices.device import CPU, Device, RequestedDevice
from vis4mer.errors import ConfigError, DataError, DeviceError, Vis4merError
from vis4mer.text import first_line
from vis4mer.training.launch import GRACE_SECONDS

T = TypeVar("T")

# Processes wait for each other while movies are encoded, which may take days. If one dies, torchrun ends all others.
_TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as seen by one of them.

    Attributes:
        rank: Index of this process among all processes.
        local_rank: Index of this process among those of its machine, and of the GPU that it uses.
        count: Number of processes.
        group: Process group to exchange Python objects in; None for a single process.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    group: distributed.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and reports to the user."""
        return self.rank == 0

    def device(self, requested: RequestedDevice) -> RequestedDevice:
        """Returns this process' own device; several processes on one machine use one GPU each.

        Args:
            requested: Device that the user chose for all processes.

        Raises:
            ConfigError: The user chose a single GPU for several processes.
        """
        if self.count == 1 or requested == CPU or not torch.cuda.is_available():
            return requested
        if isinstance(requested, Device):
            rule = "must be auto, cuda or cpu for several processes, which use one GPU each"
            raise ConfigError.of("device", str(requested), rule)
        return Device("cuda", self.local_rank)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Ends all processes if the block fails in one of them, and reports only one error.

        Raises:
            Vis4merError: The error of the first process that failed, in the main process.
            SystemExit: A process failed, in the other processes.
        """
        failure: Vis4merError | None = None
        try:
            yield
        except Vis4merError as error:
            failure = error
        # Every process takes part in this exchange, whether it failed or not; without the failed one, the others would
        # wait forever.
        failures = [error for error in self.gather(failure) if error]
        if not failures:
            return
        if self.is_main:
            raise failures[0]
        # torchrun ends all processes as soon as one ends, so the main process gets time to report the error.
        time.sleep(GRACE_SECONDS)
        raise SystemExit(1)

    def check_same(self, value: object, name: str) -> None:
        """Checks that all processes have the same value.

        Args:
            value: Value of this process.
            name: Name of the value, for the error message.

        Raises:
            DataError: A process has another value than the main process.
        """
        values = self.gather(value)
        with self.together():
            if value != values[0]:
                rule = f"has other {name} than the main process"
                raise DataError.of("rank", self.rank, rule, "pass the same to all processes")

    def gather(self, value: T) -> list[T]:
        """Returns the values of all processes, by rank; tensors must be on the CPU."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def from_main(self, value: T) -> T:
        """Returns the value of the main process; tensors must be on the CPU."""
        return self.gather(value if self.is_main else None)[0]  # type: ignore[return-value]

    def part(self, length: int) -> range:
        """Returns this process' part of ``range(length)``; parts are consecutive, and equally long up to one."""
        return range(self.rank * length // self.count, (self.rank + 1) * length // self.count)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Wraps a module so that its gradients become the mean of all processes' gradients."""
        return module if self.count == 1 else DistributedDataParallel(module)


ALONE = Processes()
"""The single process of a run without torchrun."""


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Connects the processes that torchrun started until the block ends, GPUs by NCCL and CPUs by gloo.

    Raises:
        DeviceError: They cannot be connected.
    """
    rank, local_rank, count = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    if count <= 1:
        yield ALONE
        return
    try:
        backend = "gloo"
        if torch.cuda.is_available():
            # Without a device of its own, every process would use the first GPU. The modulus allows more processes than
            # GPUs, which may still train on the CPU.
            torch.cuda.set_device(local_rank % torch.cuda.device_count())
            backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend)
        # Python objects are exchanged through gloo, because NCCL would pass them through GPU memory. The group has its
        # own timeout; the default one would end the run while movies are encoded.
        group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=_TIMEOUT))
    except (RuntimeError, ValueError) as error:
        rule = f"cannot be connected ({first_line(error)})"
        raise DeviceError.of("processes", count, rule, "start all of them with torchrun") from None
    yield Processes(rank, local_rank, count, group)
    # Only without an exception: this waits for the other processes, which might be waiting for this one.
    distributed.destroy_process_group()


class BatchShares(Sampler[list[int]]):
    """One process' share of every batch; the shares of all processes make up the batches of a single process.

    The order follows from PyTorch's generator, which must be in the same state in all processes. After drawing it, each
    process but the first seeds its generator differently, for its own dropout.

    Args:
        length: Number of items in the data set.
        batch_size: Items per batch of all processes together.
        processes: Processes that share the batches.
    """

    def __init__(self, length: int, batch_size: int, processes: Processes) -> None:
        self._batches = BatchSampler(RandomSampler(range(length)), batch_size, drop_last=False)
        self._processes = processes
        self._length, self._batch_size = length, batch_size

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        rank, count = self._processes.rank, self._processes.count
        # The whole order is drawn before the generators of the processes diverge.
        batches = list(self._batches)
        if rank > 0:
            torch.manual_seed(torch.initial_seed() + rank)
        for batch in batches:
            # All processes must exchange gradients, so a process without a share computes one that `own` counts as 0.
            yield batch[rank::count] or batch[:1]

    def size(self, batch: int) -> int:
        """Returns the number of items of all processes in a batch, by its index."""
        return min(self._batch_size, self._length - batch * self._batch_size)

    def own(self, batch: int) -> int:
        """Returns the number of this process' items in a batch, by its index; 0 if it has no share."""
        return len(range(self._processes.rank, self.size(batch), self._processes.count))
