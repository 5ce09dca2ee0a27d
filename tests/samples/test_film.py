"""Pictures depend on the story alone, and files on the pictures."""

from pathlib import Path

import av
import numpy as np
import pytest

from samples.generator.characters import COLOURS
from samples.generator.film import Format, render, write
from samples.generator.story import Story

SMALL = Format(fps=1, width=160, height=90)
STORY = Story.from_seed(11)


def test_frames_have_the_format() -> None:
    frames = list(render(STORY, SMALL))
    assert len(frames) == round(STORY.duration)
    assert all(frame.shape == (90, 160, 3) and frame.dtype == np.uint8 for frame in frames)


def test_a_moment_looks_the_same_at_every_frame_rate() -> None:
    slow = render(STORY, SMALL, (10, 20))
    fast = render(STORY, Format(fps=4, width=160, height=90), (10, 20))
    np.testing.assert_array_equal(list(slow), list(fast)[::4])


def test_an_excerpt_is_a_part_of_the_movie() -> None:
    np.testing.assert_array_equal(list(render(STORY, SMALL, (12, 22))), list(render(STORY, SMALL))[12:22])


def test_spans_follow_one_another() -> None:
    joined = list(render(STORY, SMALL, (30, 33), (12, 14), (12, 14)))
    movie = list(render(STORY, SMALL))
    np.testing.assert_array_equal(joined, [movie[i] for i in (30, 31, 32, 12, 13, 12, 13)])


def test_the_guest_stands_in_the_door() -> None:
    """The doorway is filled with the guest's colour, not with one of the other three."""
    for event in (STORY.leaving, STORY.arriving):
        (frame,) = render(STORY, SMALL, (event.start + 2.5, event.start + 3.5))
        doorway = frame[40:75, 66:94].reshape(-1, 3).astype(int)
        shares = {
            name: np.mean(np.abs(doorway - np.array(colour)).sum(axis=1) < 60) for name, colour in COLOURS.items()
        }
        assert shares.pop(event.character) > 0.3
        assert max(shares.values()) < 0.1


def test_a_file_holds_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "movie.mp4"
    write(STORY, path, SMALL, (5, 15))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        decoded = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
    drawn = list(render(STORY, SMALL, (5, 15)))
    assert len(decoded) == 10
    assert max(np.abs(a - b).mean() for a, b in zip(decoded, drawn, strict=True)) < 8


def test_equal_stories_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write(STORY, tmp_path / name, SMALL, (0, 10))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(av.FFmpegError):
        write(STORY, tmp_path / "movie.mp4", Format(fps=1, width=161, height=90), (0, 3))
    assert not list(tmp_path.iterdir())
