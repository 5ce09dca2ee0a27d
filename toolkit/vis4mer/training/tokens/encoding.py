"""Filling a feature cache in this process."""

from collections.abc import Iterator, Sequence

from vis4mer.errors import Vis4merError
from vis4mer.training.data.listing import Example, Split
from vis4mer.training.data.videos import EncodingJob
from vis4mer.training.distributed import Processes
from vis4mer.training.progress import Progress
from vis4mer.training.tokens.cache import FeatureCache
from vis4mer.training.tokens.windows import TrainingMovie
from vis4mer.video.reader import FrameProgress

EncodingResult = tuple[EncodingJob, Vis4merError | None]
"""A finished job, and the error that it failed with."""


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
        error = encode_video(cache, job, within_video)
        progress(task, n_done + 1, len(jobs))
        yield job, error


def encode_video(cache: FeatureCache, job: EncodingJob, progress: FrameProgress | None = None) -> Vis4merError | None:
    """Encodes one video unless the cache holds it; returns the error if it fails."""
    try:
        cache.tokens(job.video, job.clip, progress=progress)
    except Vis4merError as error:
        return error
    return None


def encode_movies(
    cache: FeatureCache, examples: Sequence[Example], split: Split, processes: Processes, progress: Progress
) -> list[TrainingMovie]:
    """Returns the tokens of movies; each process encodes a share of those that the cache lacks.

    Args:
        cache: Cache to read and fill.
        examples: Movies of one split.
        split: Name of the split.
        processes: Processes that share the work.
        progress: Callback for the movies that this process has encoded.

    Raises:
        Vis4merError: A video cannot be read or encoded.
    """
    with processes.together():
        share = [EncodingJob(example.video, example.clip) for example in examples[processes.rank :: processes.count]]
        for _, error in encode_videos(cache, share, f"encoding {split} movies", progress):
            if error is not None:
                raise error
    # The block above ends only when every process has encoded its share, so this one only opens files. On a machine
    # with a cache of its own, it encodes the movies that were encoded elsewhere.
    with processes.together():
        return [TrainingMovie(cache.tokens(example.video, example.clip), example.target) for example in examples]


def _fractions(task: str, n_done: int, total: int, progress: Progress) -> FrameProgress:
    """Returns a callback that reports the frames read of video number `n_done` as a fraction of it."""

    def on_frames(read: int, expected: int) -> None:
        # The expected number is an estimate. The last percent stands for what follows the last frame.
        progress(task, n_done + 0.99 * read / max(read, expected), total)

    return on_frames
