import numpy as np
import pytest

from vis4mer.video.segments import cut_segments, segment_starts


@pytest.mark.parametrize(
    ("frames", "length", "count", "expected"),
    [
        (100, 32, 4, [0, 17, 34, 51]),
        (690, 32, 64, [int(i * (690 - 32) / 64) for i in range(64)]),
        (40, 32, 64, list(range(8))),
        (96, 32, 64, list(range(64))),
        (32, 32, 64, [0]),
        (5, 32, 64, [0]),
    ],
)
def test_starts_are_the_published_ones(frames: int, length: int, count: int, expected: list[int]) -> None:
    assert segment_starts(frames, length, count) == expected


@pytest.mark.parametrize("frames", [32, 33, 95, 96, 97, 543, 545, 2000, 9999])
def test_64_evenly_taken_of_512_are_the_64_themselves(frames: int) -> None:
    many, few = segment_starts(frames, 32, 512), segment_starts(frames, 32, 64)
    taken = [many[i * len(many) // 64] for i in range(64)]
    assert [few[i * len(few) // 64] for i in range(64)] == taken


def movie(frames: int) -> np.ndarray:
    """Frames that hold their number."""
    return np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 2, 2, 3))


@pytest.mark.parametrize("batch", [1, 3, 32, 200])
@pytest.mark.parametrize(
    ("frames", "length", "count"), [(200, 4, 10), (200, 32, 64), (50, 8, 100), (9, 9, 4), (40, 1, 7)]
)
def test_segments_are_runs_of_frames_whatever_the_batches(frames: int, length: int, count: int, batch: int) -> None:
    starts = segment_starts(frames, length, count)
    batches = [movie(frames)[i : i + batch] for i in range(0, frames, batch)]
    groups = list(cut_segments(batches, starts, length, at_once=3))
    assert all(len(group) == 3 for group in groups[:-1])
    numbers = np.concatenate(groups)[:, :, 0, 0, 0]
    assert numbers.tolist() == [list(range(start, start + length)) for start in starts]


def test_a_short_movie_ends_on_its_last_frame() -> None:
    (group,) = cut_segments([movie(2), movie(3)[2:]], segment_starts(3, 5, 8), 5)
    assert group[0, :, 0, 0, 0].tolist() == [0, 1, 2, 2, 2]


def test_little_more_than_a_segment_is_held() -> None:
    alive: set[int] = set()

    class Frame(np.ndarray):
        def __del__(self) -> None:
            alive.discard(id(self))

    def batches():  # type: ignore[no-untyped-def]
        for _ in range(300):
            frame = np.zeros((2, 2, 3), np.uint8).view(Frame)
            alive.add(id(frame))
            yield [frame]
            assert len(alive) <= 4 + 2

    assert len(list(cut_segments(batches(), segment_starts(300, 4, 12), 4))) == 12
