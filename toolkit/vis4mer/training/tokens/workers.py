"""Filling a feature cache by several worker processes, each with an encoder of its own."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch

from vis4mer.devices.device import CPU, Device
from vis4mer.errors import DeviceError, Vis4merError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.placement import to_device
from vis4mer.text import first_line
from vis4mer.training.data.videos import EncodingJob
from vis4mer.training.progress import Progress
from vis4mer.training.settings import ExtractSettings
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.encoding import EncodingResult, encode_video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheRecipe:
    """Everything that a worker needs to open the cache; unlike the cache itself, it can be sent to a process.

    Attributes:
        root: Folder of the cache.
        settings: Encoder, frames and type of the tokens.
        batch_size: Frames per pass through the encoder.
    """

    root: Path
    settings: ExtractSettings
    batch_size: int = 32

    def open(self, device: Device = CPU) -> FeatureCache:
        """Builds the encoder on a device and opens the cache.

        Raises:
            Vis4merError: The encoder cannot be built, or the cache cannot be written.
        """
        encoder, preprocessing = self.settings.encoder, self.settings.preprocessing
        module = FrameEncoder.build(encoder.name, preprocessing, encoder.weights, self.settings.seed)
        return FeatureCache(
            self.root,
            to_device(module, str(device)),
            preprocessing,
            dtype=self.settings.cache_dtype,
            batch_size=self.batch_size,
        )


def encode_in_workers(
    recipe: CacheRecipe,
    jobs: Sequence[EncodingJob],
    n_workers: int,
    devices: Sequence[Device],
    task: str,
    progress: Progress,
    on_start: Callable[[], None] | None = None,
) -> Iterator[EncodingResult]:
    """Encodes videos in several processes, which end when this process ends for any reason.

    Args:
        recipe: Cache to fill.
        jobs: Videos to encode.
        n_workers: Number of processes.
        devices: Devices of the encoders, assigned to the workers in turn.
        task: Name of the task for `progress`, whose unit is one video.
        progress: Callback for the videos that are done.
        on_start: Picklable function that each worker calls first.

    Yields:
        Each job when it is finished, in any order.

    Raises:
        DeviceError: A worker died.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork.
    # The pool passes the same arguments to every worker, so a shared counter assigns the devices.
    n_started = context.Value("i", 0)
    # By default each worker would start a thread per core, and the workers would compete for all of them.
    n_threads = max(1, (os.cpu_count() or 1) // n_workers)
    # Only this pool's workers may be terminated, not other processes of the caller.
    other_children = set(multiprocessing.active_children())
    arguments = (recipe, tuple(devices), n_started, n_threads, on_start)
    with ProcessPoolExecutor(n_workers, context, _start_worker, arguments) as pool:
        running = {pool.submit(_work, job) for job in jobs}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    running.remove(future)
                    progress(task, len(jobs) - len(running), len(jobs))
                    yield future.result()
        except BrokenProcessPool:
            rule = "a worker died, usually because memory ran out"
            remedy = "run the same command again with fewer workers or a smaller batch size; it continues"
            raise DeviceError.of("workers", n_workers, rule, remedy) from None
        except (KeyboardInterrupt, GeneratorExit):
            # Leaving the pool's block waits for the videos under way, so their workers are terminated first.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - other_children:
                process.terminate()
            raise


# The cache of a worker process, opened once by `_start_worker` and used by every job.
_worker_cache: FeatureCache | None = None


def _start_worker(
    recipe: CacheRecipe,
    devices: Sequence[Device],
    n_started: "Synchronized[int]",
    n_threads: int,
    on_start: Callable[[], None] | None,
) -> None:
    global _worker_cache
    # Ctrl-C reaches all processes of the terminal. The first process reports it and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(n_threads)
    if on_start is not None:
        on_start()
    with n_started.get_lock():
        device = devices[n_started.value % len(devices)]
        n_started.value += 1
    try:
        _worker_cache = recipe.open(device)
    except (Vis4merError, RuntimeError) as error:  # CUDA raises RuntimeError
        # The pool would print the traceback of an exception that leaves its initialiser.
        logger.error("a worker cannot start on %s: %s", device, first_line(error))
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only worker processes run this"
    # This returns even if the parent was killed. An exit of the interpreter would end only this thread.
    parent.join()
    os._exit(1)


def _work(job: EncodingJob) -> EncodingResult:
    assert _worker_cache is not None, "the pool's initialiser has run"
    return encode_video(_worker_cache, job)
