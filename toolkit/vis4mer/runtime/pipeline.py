"""From movies to the predictions of their windows: several movies are read at once, and share the model."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from vis4mer.devices.arrays import Array, on_host
from vis4mer.runtime.classification import Classification, Step, Video, WaitingWindow
from vis4mer.runtime.overlap import Ahead, Overlap
from vis4mer.runtime.stages import Stages
from vis4mer.runtime.windows import WindowCutter
from vis4mer.video.frames import VideoReader

MovieProgress = Callable[[int, int, int], None]
"""A callback that receives the number of a movie, the number of its frames done so far, and the expected number."""

Turn = list[Step]
"""Steps that go through the model together, each of another movie."""


class Pipeline:
    """Reads several movies at once and runs the model on whatever frames are ready.

    There is a thread for each movie that is read, and on a GPU one for the encoder, which works ahead of the heads; the
    caller's thread does the rest. At most ``2 * jobs + 2`` batches of frames exist at a time: each thread that reads
    makes one and has one ready, and one is encoded, which may have been joined from others. Beside these, each movie in
    flight holds a window of tokens.

    Args:
        stages: Stages of the model.
        open_video: Opens a movie.
        stride_frames: Frames from one window's start to the next one's.
        batch_size: Frames to encode at once.
        jobs: Number of movies that are read at once.
        on_gpu: Whether the model runs on a GPU. There, movies that are read at once share batches of frames and of
            windows: which of them do depends on the speed of the video decoders, and so may the rounding.
        progress: Called once a movie is open, and after each of its batches, in the caller's thread.
    """

    def __init__(
        self,
        stages: Stages,
        open_video: Callable[[Video], VideoReader],
        *,
        stride_frames: int,
        batch_size: int,
        jobs: int,
        on_gpu: bool,
        progress: MovieProgress | None,
    ) -> None:
        self._stages, self._open_video, self._progress = stages, open_video, progress
        self._stride_frames, self._batch_size, self._jobs = stride_frames, batch_size, jobs
        self._windows_at_once = max(1, batch_size // stages.model.window_frames)
        # On a CPU, encoder and S4 decoders already use all cores, and would only compete for them. Every movie keeps
        # its own batches there, so its prediction has the same bits whichever movies are read at once.
        self._encode_ahead, self._shared = on_gpu, on_gpu and jobs > 1
        self._shared_waiting: deque[WaitingWindow] = deque()
        self._lock = threading.Lock()  # guards the iterator over the movies, from which several threads take
        self._in_flight: dict[int, Classification] = {}
        self._ended = False

    def run(self, videos: Iterable[Video]) -> Generator[Classification, None, None]:
        """Yields each movie as soon as it is over."""
        numbered = enumerate(videos)
        with Overlap() as overlap, self._closing():
            steps = overlap.ahead(*(self._read(numbered) for _ in range(self._jobs)))
            turns: Iterator[Turn] = map(self._encode, map(partial(self._turn, steps), steps))
            if self._encode_ahead:
                turns = overlap.ahead(turns)
            for turn in turns:
                self._advance(turn)
                for movie in [movie for movie in self._movies() if movie.over]:
                    del self._in_flight[movie.number]
                    yield movie

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Closes the readers when the block ends, so that the threads which read need not finish their batches."""
        try:
            yield
        finally:
            self._ended = True
            for movie in self._movies():
                movie.close()

    def _movies(self) -> list[Classification]:
        """Returns the movies in flight; threads that read add to them meanwhile."""
        return list(self._in_flight.values())

    def _read(self, numbered: Iterator[tuple[int, Video]]) -> Iterator[Step]:
        """Yields the steps of one movie after another, of those that no other thread has taken."""
        while (movie := self._next(numbered)) is not None:
            try:
                with self._open_video(movie.video) as reader:
                    movie.open(reader, self._stages.model)
                    yield Step(movie)
                    # The variable of a loop would keep a batch in memory while the next one is made.
                    yield from map(movie.look_at, reader)
            except Exception as error:
                yield Step(movie, ends=True, error=error)
            else:
                yield Step(movie, ends=True)

    def _next(self, numbered: Iterator[tuple[int, Video]]) -> Classification | None:
        """Takes the next movie, if there is one."""
        with self._lock:
            # A thread whose reader has been closed must not open the next movie, which could take seconds.
            if self._ended or (item := next(numbered, None)) is None:
                return None
            number, video = item
            cutter = WindowCutter(self._stages.model.window_frames, self._stride_frames)
            waiting = self._shared_waiting if self._shared else deque[WaitingWindow]()
            movie = self._in_flight[number] = Classification(number, video, cutter, waiting)
            return movie

    def _turn(self, steps: Ahead[Step], first: Step) -> Turn:
        """Returns a step and, if movies share batches, the other ready steps whose frames fit into one batch with it.

        A reader's batches are never split, so the full ones of long movies go through the encoder as they are, without
        a copy, and only the last ones and those of short movies are joined.
        """
        batches = [] if first.array is None else [first.array]

        def fits(step: Step) -> bool:
            if step.array is None:
                return True
            # One movie's frames may be on the host and another's on the device, if only one of them is for DALI.
            same_place = all(type(batch) is type(step.array) for batch in batches)
            if not same_place or sum(map(len, batches)) + len(step.array) > self._batch_size:
                return False
            batches.append(step.array)
            return True

        return [first, *steps.take_ready(fits)] if self._shared else [first]

    def _encode(self, turn: Turn) -> Turn:
        """Replaces the frames of a turn by their tokens."""
        # A movie that has failed may have a batch ready, or yield what it had of one when it was closed.
        turn = [step._replace(array=None) if step.movie.over else step for step in turn]
        batches = [step.array for step in turn if step.array is not None]
        if not batches:
            return turn
        try:
            tokens = iter(self._stages.encode_together(batches))
        except Exception as error:
            # The encoder fails for lack of memory or because of the device, not because of one movie's frames.
            return [step if step.array is None else Step(step.movie, ends=True, error=error) for step in turn]
        return [step if step.array is None else step._replace(array=next(tokens)) for step in turn]

    def _advance(self, turn: Turn) -> None:
        """Cuts windows from the tokens of a turn, runs the heads on them, and marks the movies that are over."""
        for step in turn:
            if step.error is not None:
                step.movie.fail(step.error)
            if not step.movie.over:
                self._cut(step)
        self._run_heads(turn[0].movie.waiting, flush=any(step.ends for step in turn))
        for step in turn:
            step.movie.over |= step.ends

    def _cut(self, step: Step) -> None:
        """Adds the windows that a step completes to those that wait for the heads."""
        movie, tokens = step.movie, step.array
        if step.ends:
            windows = movie.cutter.finish()
        else:
            windows = [] if tokens is None else movie.cutter.add(tokens)
            movie.encoded += 0 if tokens is None else len(tokens)
            if self._progress is not None:
                self._progress(movie.number, movie.encoded, movie.reader.n_frames)
        movie.waiting.extend(WaitingWindow(movie, window) for window in windows)

    def _run_heads(self, waiting: deque[WaitingWindow], *, flush: bool) -> None:
        """Runs the heads on full groups of windows, and with `flush` on the rest too."""
        queued: list[tuple[list[WaitingWindow], Mapping[str, Array]]] = []
        while len(waiting) >= self._windows_at_once or (flush and waiting):
            group = [waiting.popleft() for _ in range(min(self._windows_at_once, len(waiting)))]
            group = [window for window in group if not window.movie.over]
            if group:
                with _failing(group):
                    queued.append((group, self._stages.queue_heads([window for _, window in group])))
        # A GPU has all groups before the first logits are waited for, so it does not idle in between.
        for group, outputs in queued:
            with _failing(group):
                logits = {name: on_host(output) for name, output in outputs.items()}
                for row, window in enumerate(group):
                    if not window.movie.over:
                        with _failing([window]):
                            rows = {name: values[row : row + 1] for name, values in logits.items()}
                            window.movie.aggregator.add([window.window], rows)


@contextmanager
def _failing(group: Sequence[WaitingWindow]) -> Iterator[None]:
    """Lets the movies of the windows fail if the block raises, instead of all movies."""
    try:
        yield
    except Exception as error:
        for movie, _ in group:
            movie.fail(error)
