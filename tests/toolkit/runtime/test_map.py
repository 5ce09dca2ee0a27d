"""Several movies in flight: the predictions of single calls, errors, order, memory, and that no thread is left."""

import itertools
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import ConfigError, DeviceError, VideoError, Vis4merError
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.overlap import Ahead
from vis4mer.video import open_video, pyav, scan

PATIENCE = 30  # seconds after which a wait counts as a deadlock
GPU = Device("cuda")
LENGTHS = (7, 1, 40, 3, 64, 5, 1, 33)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def movies(make_video: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Movies of mixed lengths, in no order."""
    folder = tmp_path_factory.mktemp("lengths")
    return [
        make_video(folder / f"{i}.mkv", [(30 * i, 3 * j, 200 - 3 * j) for j in range(length)])
        for i, length in enumerate(LENGTHS)
    ]


def classifier_with(bundle: Path, device: Device = CPU, **runners: Any) -> Classifier:
    """The model of a bundle, some runners of which are replaced, and which takes the host for `device`."""
    loaded = vis4mer.load(bundle, device="cpu")
    return Classifier(
        loaded.model,
        {**loaded.stages.runners, **runners},
        source=loaded.source,
        device=device,
        device_reason=loaded.device_reason,
        precision=loaded.precision,
    )


def encoder_of(bundle: Path) -> Any:
    return vis4mer.load(bundle, device="cpu").stages.runners["encoder"]


def as_json(outcomes: Any) -> list[str]:
    return [json.dumps(outcome.result().to_dict()) for outcome in outcomes]


@pytest.mark.parametrize("jobs", [None, 1, 2, 3, 20])
@pytest.mark.parametrize("batch_size", [4, 32])
def test_predictions_have_the_bytes_of_single_calls(
    tiny_bundle: Path, movies: list[Path], jobs: int | None, batch_size: int
) -> None:
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    alone = [json.dumps(classifier(movie, batch_size=batch_size).to_dict()) for movie in movies]
    assert as_json(classifier.map(movies, jobs=jobs, batch_size=batch_size)) == alone


def test_a_batch_on_the_cpu_holds_frames_of_one_movie(tiny_bundle: Path, movies: list[Path]) -> None:
    encode, batches = encoder_of(tiny_bundle), []

    def recording(frames: Any) -> Any:
        batches.append(len(frames))
        return encode(frames)

    list(classifier_with(tiny_bundle, encoder=recording).map(movies, jobs=4, batch_size=16))
    expected = [min(16, length - start) for length in LENGTHS for start in range(0, length, 16)]
    assert sorted(batches) == sorted(expected)


@pytest.mark.parametrize("device", [CPU, GPU])
def test_movies_that_fail_do_not_end_the_others(
    tiny_bundle: Path, movies: list[Path], tmp_path: Path, device: Device
) -> None:
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(movies[2].read_bytes()[:300])
    videos = [tmp_path / "absent.mkv", movies[0], broken, *movies[1:4], tmp_path, movies[4]]
    outcomes = list(classifier_with(tiny_bundle, device).map(videos, jobs=3, video_decoder="pyav"))
    assert [outcome.number for outcome in outcomes] == list(range(8))
    assert [outcome.video for outcome in outcomes] == [str(video) for video in videos]
    assert [outcome.prediction is None for outcome in outcomes] == [i in (0, 2, 6) for i in range(8)]
    for number in (0, 2, 6):
        assert isinstance(outcomes[number].error, VideoError)
        with pytest.raises(VideoError):
            outcomes[number].result()
    assert [outcomes[i].result().frames for i in (1, 3, 4, 5, 7)] == [7, 1, 40, 3, 64]


def test_scanned_movies_are_taken_as_they_are(tiny_bundle: Path, movies: list[Path], scans: list[str]) -> None:
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    scanned = [scan(movie) for movie in movies[:2]]
    scans.clear()
    assert [outcome.video for outcome in classifier.map(scanned)] == [str(movie) for movie in movies[:2]]
    assert scans == []


def test_outcomes_come_as_soon_as_they_are_done_on_request(
    tiny_bundle: Path, movies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    others_done = threading.Event()

    def open_late(video: Path, **options: Any) -> Any:
        assert video != movies[0] or others_done.wait(PATIENCE)
        return open_video(video, **options)

    monkeypatch.setattr("vis4mer.runtime.classifier.open_video", open_late)
    outcomes = vis4mer.load(tiny_bundle, device="cpu").map(movies[:4], jobs=2, in_order=False)
    assert [next(outcomes).number for _ in range(3)] == [1, 2, 3]
    others_done.set()
    assert [outcome.number for outcome in outcomes] == [0]


def test_movies_are_taken_one_by_one_from_an_endless_iterator(tiny_bundle: Path, movies: list[Path]) -> None:
    taken = []

    def endless() -> Iterator[Path]:
        for number in itertools.count():
            taken.append(number)
            yield movies[number % 4]

    outcomes = vis4mer.load(tiny_bundle, device="cpu").map(endless(), jobs=2, in_order=False)
    assert all(outcome.error is None for outcome in itertools.islice(outcomes, 9))
    outcomes.close()
    assert len(taken) <= 9 + 2 * 2


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("error", [RuntimeError("broken iterator"), KeyboardInterrupt()])
def test_an_error_of_the_iterator_over_movies_is_raised(
    tiny_bundle: Path, movies: list[Path], device: Device, error: BaseException
) -> None:
    def failing() -> Iterator[Path]:
        yield movies[0]
        raise error

    with pytest.raises(type(error)) as raised:
        list(classifier_with(tiny_bundle, device).map(failing(), jobs=3, video_decoder="pyav"))
    assert raised.value is error


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("in_order", [True, False])
def test_closing_early_ends_every_thread(
    tiny_bundle: Path, movies: list[Path], device: Device, count: int, in_order: bool
) -> None:
    outcomes = classifier_with(tiny_bundle, device).map(
        movies * 3, jobs=3, batch_size=2, video_decoder="pyav", in_order=in_order
    )
    assert len(list(itertools.islice(outcomes, count))) == count
    outcomes.close()
    assert next(outcomes, None) is None


def test_an_iterator_that_is_never_closed_does_not_keep_the_program(tiny_bundle: Path, movies: list[Path]) -> None:
    program = """
import sys, vis4mer
outcomes = vis4mer.load(sys.argv[1], device="cpu").map(sys.argv[2:] * 4, jobs=2, batch_size=1)
print(next(outcomes).result().frames)
"""
    command = [sys.executable, "-c", program, str(tiny_bundle), *map(str, movies)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "7\n"


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_the_number_of_batches_in_memory_is_bounded(
    tiny_bundle: Path, movies: list[Path], monkeypatch: pytest.MonkeyPatch, device: Device, jobs: int
) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Batch(np.ndarray):  # type: ignore[type-arg]
        """Frames whose lifetime is observed; an ordinary array cannot be put into a set."""

        __hash__ = object.__hash__

    def observed(images: Sequence[Any], rows: int) -> Any:
        nonlocal most
        batch = np.concatenate(images).view(Batch)
        alive.add(batch)
        most = max(most, len({id(array) for array in alive}))
        return batch

    monkeypatch.setattr("vis4mer.video.sampled.join", observed)
    encode = encoder_of(tiny_bundle)

    def slow(frames: Any) -> Any:
        threading.Event().wait(0.005)  # all threads that read get ahead
        return encode(np.asarray(frames))

    classifier = classifier_with(tiny_bundle, device, encoder=slow)
    outcomes = classifier.map(movies * 2, jobs=jobs, batch_size=4, video_decoder="pyav")
    assert all(outcome.error is None for outcome in outcomes)
    assert jobs < most <= 2 * jobs + 2


def test_several_movies_divide_the_cores(
    tiny_bundle: Path, movies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = set()
    decode = pyav.decode

    def recording(decoder: Any, packet: Any) -> Any:
        counts.add(decoder.thread_count)
        return decode(decoder, packet)

    monkeypatch.setattr(pyav, "decode", recording)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(12)))
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    for jobs, threads in ((3, 4), (5, 2), (8, 1)):
        counts.clear()
        list(classifier.map(movies, jobs=jobs))
        assert counts == {threads}


@pytest.mark.parametrize(("jobs", "batch_size"), [(0, 1), (-1, 1), (1, 0)])
def test_arguments_are_checked_before_the_first_movie(tiny_bundle: Path, jobs: int, batch_size: int) -> None:
    with pytest.raises(ConfigError, match=r"jobs|batch_size"):
        vis4mer.load(tiny_bundle, device="cpu").map([], jobs=jobs, batch_size=batch_size)


@pytest.mark.parametrize("jobs", [None, 3])
def test_no_movies_have_no_outcomes(tiny_bundle: Path, jobs: int | None) -> None:
    assert list(vis4mer.load(tiny_bundle, device="cpu").map([], jobs=jobs)) == []


@pytest.mark.parametrize("device", [CPU, GPU])
def test_progress_counts_the_frames_of_each_movie(tiny_bundle: Path, movies: list[Path], device: Device) -> None:
    seen: dict[int, list[tuple[int, int]]] = {}
    threads = set()

    def progress(number: int, done: int, expected: int) -> None:
        seen.setdefault(number, []).append((done, expected))
        threads.add(threading.current_thread())

    classifier = classifier_with(tiny_bundle, device)
    list(classifier.map(movies, jobs=3, batch_size=16, video_decoder="pyav", progress=progress))
    for number, length in enumerate(LENGTHS):
        steps = [(done, length) for done in range(0, length, 16)]
        assert seen[number] == [*steps, (length, length)]
    assert threads == {threading.current_thread()}


@pytest.fixture
def everyone_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the encoder take what is ready only once every thread that reads has something ready, or has ended."""
    take_ready = Ahead.take_ready

    def take_all(steps: Any, accept: Any) -> Any:
        with steps._changed:
            steps._changed.wait_for(lambda: len(steps._ready) >= steps._running - 1, PATIENCE)
        return take_ready(steps, accept)

    monkeypatch.setattr(Ahead, "take_ready", take_all)


@pytest.mark.usefixtures("everyone_is_ready")
def test_on_a_gpu_short_movies_share_batches(tiny_bundle: Path, make_video: Any, tmp_path: Path) -> None:
    videos = [make_video(tmp_path / f"{i}.mkv", [(10 * i, 50, 200)] * (1 + i % 3)) for i in range(24)]
    alone = vis4mer.load(tiny_bundle, device="cpu")
    sizes: dict[str, list[int]] = {"encoder": [], "colour": []}

    def recording(name: str) -> Any:
        run = alone.stages.runners[name]

        def call(batch: Any) -> Any:
            sizes[name].append(len(batch))
            return run(batch)

        return call

    classifier = classifier_with(tiny_bundle, GPU, **{name: recording(name) for name in sizes})
    outcomes = list(classifier.map(videos, jobs=6, batch_size=10, video_decoder="pyav"))
    assert sum(sizes["encoder"]) == sum(1 + i % 3 for i in range(24))
    assert sum(sizes["colour"]) == 24
    assert len(sizes["encoder"]) < 16
    assert len(sizes["colour"]) < 24, sizes
    assert (max(sizes["encoder"]) <= 10, max(sizes["colour"])) == (True, 2)
    for video, outcome in zip(videos, outcomes, strict=True):
        expected = alone(video)
        got = outcome.result()
        assert got.label == expected.label
        for name in ("colour", "light"):
            for window, expected_window in zip(got.heads[name].windows, expected.heads[name].windows, strict=True):
                assert (window.start, window.end) == (expected_window.start, expected_window.end)
                np.testing.assert_allclose(window.probabilities, expected_window.probabilities, atol=1e-6)
                assert window.value == pytest.approx(expected_window.value, abs=1e-6)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("stage", ["encoder", "colour"])
def test_on_a_gpu_a_failing_run_ends_only_the_movies_in_it(
    tiny_bundle: Path, movies: list[Path], jobs: int, stage: str
) -> None:
    run, error = vis4mer.load(tiny_bundle, device="cpu").stages.runners[stage], DeviceError("out of memory")
    calls = itertools.count(1)

    def fail_once(batch: Any) -> Any:
        if next(calls) == 2:
            raise error
        return run(batch)

    classifier = classifier_with(tiny_bundle, GPU, **{stage: fail_once})
    outcomes = list(classifier.map(movies, jobs=jobs, batch_size=8, video_decoder="pyav"))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert {id(outcome.error) for outcome in failed} == {id(error)}
    assert 1 <= len(failed) <= jobs
    expected = {number: length for number, length in enumerate(LENGTHS) if outcomes[number].error is None}
    assert {outcome.number: outcome.result().frames for outcome in outcomes if not outcome.error} == expected


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("stage", ["encoder", "colour"])
def test_an_interrupt_in_a_stage_ends_all(tiny_bundle: Path, movies: list[Path], device: Device, stage: str) -> None:
    def interrupted(batch: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(classifier_with(tiny_bundle, device, **{stage: interrupted}).map(movies, jobs=2, video_decoder="pyav"))


def test_an_output_that_is_not_finite_fails_its_movie_alone(tiny_bundle: Path, movies: list[Path]) -> None:
    encode = encoder_of(tiny_bundle)

    def broken(frames: Any) -> Any:
        tokens = encode(frames).copy()
        tokens[frames[:, 0, 0, 0] == 90] = np.nan  # the movie whose pictures have this red
        return tokens

    for device in (CPU, GPU):
        classifier = classifier_with(tiny_bundle, device, encoder=broken)
        outcomes = list(classifier.map(movies, jobs=4, batch_size=64, video_decoder="pyav"))
        assert [type(outcome.error) for outcome in outcomes if outcome.error] == [Vis4merError]
        assert "non-finite" in str(outcomes[3].error)


def test_a_failed_movie_is_not_read_on(tiny_bundle: Path, make_video: Any, tmp_path: Path) -> None:
    video = make_video(tmp_path / "movie.mkv", [(20, 40, 60)] * 300)
    encode, calls = encoder_of(tiny_bundle), []

    def fail(frames: Any) -> Any:
        calls.append(len(frames))
        if len(calls) == 3:
            raise DeviceError("out of memory")
        return encode(frames)

    (outcome,) = classifier_with(tiny_bundle, encoder=fail).map([video], batch_size=2)
    assert isinstance(outcome.error, DeviceError)
    assert len(calls) < 10
