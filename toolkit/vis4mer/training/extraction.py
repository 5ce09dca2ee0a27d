"""Filling a feature cache with many movies, by one process or by several."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch

from vis4mer.config import Preprocessing
from vis4mer.errors import DeviceError, Vis4merError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.weights import first_line
from vis4mer.training.features import FeatureCache, Progress
from vis4mer.training.tokens import TokenDtype
from vis4mer.training.videos import Job

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheRecipe:
    """What every worker opens the same cache from; see `FeatureCache` and `FrameEncoder.build`.

    Attributes:
        root: of the cache.
        encoder: name of the encoder.
        weights: its weight file, ``hub`` or ``random``.
        preprocessing: of the frames.
        dtype: of the stored tokens.
        batch_size: frames per pass through the encoder.
        seed: of random weights.
    """

    root: Path
    encoder: str
    weights: str
    preprocessing: Preprocessing
    dtype: TokenDtype = "bf16"
    batch_size: int = 32
    seed: int = 0

    def open(self, device: str = "cpu") -> FeatureCache:
        """Builds the encoder on `device` and opens the cache.

        Raises:
            Vis4merError: as `FrameEncoder.build` and `FeatureCache`.
        """
        encoder = FrameEncoder.build(self.encoder, self.preprocessing, self.weights, self.seed).to(device)
        return FeatureCache(self.root, encoder, self.preprocessing, dtype=self.dtype, batch_size=self.batch_size)


def extract(cache: FeatureCache, jobs: Sequence[Job], progress: Progress | None = None) -> Iterator[tuple[Job, str]]:
    """Encodes movies in this process, one after the other.

    Args:
        cache: to fill.
        jobs: what to encode.
        progress: told how many frames of the current movie have been read, and of how many.

    Yields:
        Each job when it is done, with what went wrong, or nothing.
    """
    for job in jobs:
        yield job, _encode(cache, job, progress)


def extract_in_parallel(
    recipe: CacheRecipe,
    jobs: Sequence[Job],
    workers: int,
    devices: Sequence[str],
    on_start: Callable[[], None],
) -> Iterator[tuple[Job, str]]:
    """Encodes movies in several processes, each with an encoder of its own.

    The workers end with this process, however it ends.

    Args:
        recipe: of the cache.
        jobs: what to encode.
        workers: number of processes.
        devices: of the encoders; the workers take turns.
        on_start: called first in every worker; importable by its name there.

    Yields:
        Each job when it is done, in whatever order, with what went wrong, or nothing.

    Raises:
        DeviceError: a worker died.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    turn = context.Value("i", 0)
    threads = max(1, (os.cpu_count() or 1) // workers)
    others = set(multiprocessing.active_children())
    arguments = (recipe, tuple(devices), turn, threads, on_start)
    with ProcessPoolExecutor(workers, context, _start_worker, arguments) as pool:
        running: dict[Future[str], Job] = {pool.submit(_encode_in_worker, job): job for job in jobs}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            remedy = "use fewer workers, or a smaller batch size, and run the same command again: it goes on"
            raise DeviceError(f"workers={workers}: one died, most often for lack of memory; {remedy}") from None
        except (KeyboardInterrupt, GeneratorExit):  # or the pool would wait for the movies under way
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _encode(cache: FeatureCache, job: Job, progress: Progress | None = None) -> str:
    try:
        cache.tokens(job.video, job.clip, progress=progress)
    except Vis4merError as error:
        return str(error)
    return ""


_worker_cache: FeatureCache | None = None


def _start_worker(
    recipe: CacheRecipe, devices: Sequence[str], turn: "Synchronized[int]", threads: int, on_start: Callable[[], None]
) -> None:
    global _worker_cache
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process tells of it, and ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    on_start()
    with turn.get_lock():
        device = devices[turn.value % len(devices)]
        turn.value += 1
    try:
        _worker_cache = recipe.open(device)
    except (Vis4merError, RuntimeError) as error:  # as of CUDA; raised here, it would be told with its traceback
        _LOG.error("a worker cannot start on %s: %s", device, first_line(error))
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"
    parent.join()
    os._exit(1)


def _encode_in_worker(job: Job) -> str:
    assert _worker_cache is not None, "the initializer has run"
    return _encode(_worker_cache, job)
