"""Filling a feature cache in this process."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vis4mer.errors import VideoError, Vis4merError
from vis4mer.text import count
from vis4mer.training.data.listing import Example, Split
from vis4mer.training.data.videos import EncodingJob
from vis4mer.training.distributed import Processes
from vis4mer.training.names import shortened
from vis4mer.training.progress import Progress
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.windows import TrainingMovie
from vis4mer.video.reader import FrameProgress

logger = logging.getLogger(__name__)


class EncodingResult(NamedTuple):
    """A finished job.

    Attributes:
        job: Video that was encoded.
        error: Error that it failed with; None if its tokens are in the cache.
        damage: Notes on damage in the video, whose readable part was encoded.
    """

    job: EncodingJob
    error: Vis4merError | None = None
    damage: tuple[str, ...] = ()


def encode_videos(
    cache: FeatureCache, jobs: Sequence[EncodingJob], task: str, progress: Progress
) -> Iterator[EncodingResult]:
    """Encodes videos one after the other; those that the cache holds take no time.

    Args:
        cache: Cache to fill.
        jobs: Videos to encode.
        task: Name of the task for `progress`, whose unit is one video.
        progress: Callback for the videos, and the fractions of videos, that are done.

    Yields:
        Each job when it is finished.
    """
    for n_done, job in enumerate(jobs):
        within_video = _fractions(task, n_done, len(jobs), progress)
        # An error is returned rather than raised, so that one unreadable video does not end the generator.
        result = encode_video(cache, job, within_video)
        progress(task, n_done + 1, len(jobs))
        yield result


def encode_video(cache: FeatureCache, job: EncodingJob, progress: FrameProgress | None = None) -> EncodingResult:
    """Encodes one video unless the cache holds it; an error is part of the result."""
    try:
        cache.tokens(job.video, job.clip, progress=progress)
    except Vis4merError as error:
        return EncodingResult(job, error)
    return EncodingResult(job, damage=cache.damage.pop((job.video, job.clip), ()))


def warn_damaged(results: Iterable[EncodingResult]) -> None:
    """Logs one warning with the videos of which only the readable part was encoded, if there are any."""
    damaged = [f"{result.job.video.name} ({'; '.join(result.damage)})" for result in results if result.damage]
    if damaged:
        logger.warning("encoded the readable part of %s: %s", count(len(damaged), "video"), shortened(damaged))


def encode_examples(
    cache: FeatureCache,
    examples: Sequence[Example],
    task: str,
    processes: Processes,
    progress: Progress,
    *,
    skip_unreadable: bool = False,
) -> tuple[Example, ...]:
    """Encodes the movies that the cache lacks; each process encodes a share of them.

    Args:
        cache: Cache to fill.
        examples: Movies to encode.
        task: Name of the task for `progress`, whose unit is one movie.
        processes: Processes that share the work.
        progress: Callback for the movies that this process has encoded.
        skip_unreadable: Whether a movie that cannot be read is left out instead of ending the work.

    Returns:
        The movies that were left out, in their order.

    Raises:
        Vis4merError: A video cannot be read or encoded.
    """
    jobs = [EncodingJob(example.video, example.clip) for example in examples]
    results = []
    with processes.together():
        for result in encode_videos(cache, jobs[processes.rank :: processes.count], task, progress):
            # Other errors, such as a full disk, would befall the next movie too.
            if result.error is not None and not (skip_unreadable and isinstance(result.error, VideoError)):
                raise result.error
            results.append(result)
    # The block above ends only when every process has encoded its share.
    everywhere = [result for part in processes.gather(results) for result in part]
    warn_damaged(everywhere)
    errors = {result.job: result.error for result in everywhere if result.error is not None}
    if errors:
        reasons = [str(error) for error in errors.values()]
        logger.warning("left out %d of %s: %s", len(errors), count(len(jobs), "movie"), shortened(reasons))
    return tuple(example for example, job in zip(examples, jobs, strict=True) if job in errors)


def open_movies(cache: FeatureCache, examples: Sequence[Example], processes: Processes) -> list[TrainingMovie]:
    """Returns the tokens of movies after `encode_examples`.

    Raises:
        Vis4merError: A token file is damaged.
    """
    # On a machine with a cache of its own, this encodes the movies that were encoded elsewhere.
    with processes.together():
        return [TrainingMovie(cache.tokens(example.video, example.clip), example.target) for example in examples]


def encode_movies(
    cache: FeatureCache, examples: Sequence[Example], split: Split, processes: Processes, progress: Progress
) -> list[TrainingMovie]:
    """Returns the tokens of the movies of one split, after encoding those that the cache lacks.

    Args:
        cache: Cache to read and fill.
        examples: Movies of the split.
        split: Name of the split.
        processes: Processes that share the work.
        progress: Callback for the movies that this process has encoded.

    Raises:
        Vis4merError: A video cannot be read or encoded.
    """
    encode_examples(cache, examples, f"encoding {split} movies", processes, progress)
    return open_movies(cache, examples, processes)


def _fractions(task: str, n_done: int, total: int, progress: Progress) -> FrameProgress:
    """Returns a callback that reports the frames read of video number `n_done` as a fraction of it."""

    def on_frames(read: int, expected: int) -> None:
        # The expected number is an estimate. The last percent stands for what follows the last frame.
        progress(task, n_done + 0.99 * read / max(read, expected), total)

    return on_frames
