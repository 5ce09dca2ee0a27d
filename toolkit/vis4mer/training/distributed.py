"""The processes that train one head together, each on its share of every batch.

`torchrun` starts them and tells them of each other through environment variables; without it there is one process, and
everything here does nothing.
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

from vis4mer.errors import ConfigError, DeviceError, Vis4merError

T = TypeVar("T")

# Processes wait for each other while movies are encoded, which may take long; if one of them dies, torchrun ends all.
_PATIENCE = timedelta(days=7)

# For the main process to tell of a mistake: as soon as any process ends, torchrun ends all.
_GRACE_SECONDS = 2


@dataclass(frozen=True)
class Processes:
    """What one of the processes knows of them all.

    Attributes:
        rank: number of this process among all, from 0 on.
        local_rank: its number among those of its machine, and of the GPU it uses.
        count: of all processes.
        group: over which they exchange Python objects; None where there is one only.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    group: distributed.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and talks to the user."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Names this process' own device where the user named one for all: every process has its own GPU.

        Raises:
            ConfigError: the user named one GPU for several processes.
        """
        if self.count == 1 or name == "cpu" or not torch.cuda.is_available():
            return name
        if name not in ("auto", "cuda"):
            raise ConfigError(f"device={name!r}: must be auto, cuda or cpu for several processes; each takes a GPU")
        return f"cuda:{self.local_rank}"

    @contextmanager
    def together(self) -> Iterator[None]:
        """Ends all processes if the block fails in one, and lets the user read of each mistake once.

        Raises:
            Vis4merError: the error of the first process that has one, in the main process.
            SystemExit: in the others.
        """
        failure: Vis4merError | None = None
        try:
            yield
        except Vis4merError as error:
            failure = error
        failures = [error for error in self.gather(failure) if error]
        if failures and self.is_main:
            raise failures[0]
        if failures:
            time.sleep(_GRACE_SECONDS)
            raise SystemExit(1)

    def gather(self, value: T) -> list[T]:
        """Returns every process' value, by rank; tensors must be on the CPU."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def from_main(self, value: T) -> T:
        """Returns the main process' value; tensors must be on the CPU."""
        return self.gather(value if self.is_main else None)[0]  # type: ignore[return-value]

    def part(self, length: int) -> range:
        """Returns this process' part of ``range(length)``: the parts are consecutive and differ by one at most."""
        return range(self.rank * length // self.count, (self.rank + 1) * length // self.count)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Wraps a module so that its gradients become the mean of all processes' gradients."""
        return module if self.count == 1 else DistributedDataParallel(module)


ALONE = Processes()
"""The one process that there is without torchrun."""


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Connects the processes that torchrun has started until the block ends: GPUs by NCCL, CPUs by gloo.

    Raises:
        DeviceError: they cannot be connected.
    """
    rank, local_rank, count = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    if count <= 1:
        yield ALONE
        return
    try:
        if cuda := torch.cuda.is_available():
            torch.cuda.set_device(local_rank % torch.cuda.device_count())
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=_PATIENCE))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"processes={count}: cannot be connected ({reason}); start all of them by torchrun") from None
    yield Processes(rank, local_rank, count, group)
    # Not after an exception: this waits for the other processes, which may be waiting for this one.
    distributed.destroy_process_group()


class BatchShares(Sampler[list[int]]):
    """One process' share of every batch; the shares of all processes are the batches of a single one.

    The order follows from PyTorch's generator, which must be in the same state in all processes. Once it is drawn, each
    process but the first goes on with random numbers of its own, for its dropout.

    Args:
        length: of the data set.
        batch_size: of all processes together.
        processes: that share it.
    """

    def __init__(self, length: int, batch_size: int, processes: Processes) -> None:
        self._batches = BatchSampler(RandomSampler(range(length)), batch_size, drop_last=False)
        self._processes = processes
        self._length, self._batch_size = length, batch_size

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        rank, count = self._processes.rank, self._processes.count
        batches = list(self._batches)
        if rank > 0:
            torch.manual_seed(torch.initial_seed() + rank)
        for batch in batches:
            # A process without a share computes something nevertheless, for all must exchange gradients.
            yield batch[rank::count] or batch[:1]

    def size(self, batch: int) -> int:
        """Returns the number of items in batch number `batch`, counted from 0, of all processes together."""
        return min(self._batch_size, self._length - batch * self._batch_size)

    def own(self, batch: int) -> int:
        """Returns how many of them are this process' own: 0 where it has no share."""
        return len(range(self._processes.rank, self.size(batch), self._processes.count))
