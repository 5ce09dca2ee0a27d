"""What is taken of a movie besides a regular grid over all of it: its last frame, every frame, a part."""

import dataclasses

import pytest

from vis4mer.config import Preprocessing
from vis4mer.errors import ConfigError, VideoError
from vis4mer.video import open_video, scan
from vis4mer.video.sampling import MAX_SAMPLES


@pytest.fixture
def taken(plain, video_tools):
    """Numbers of the frames taken of a movie of 48 frames, 24 a second."""

    def take(preprocessing, clip=None):
        with open_video(plain, preprocessing, clip=clip) as frames:
            images, _ = video_tools.gather(frames)
            assert frames.n_frames == len(images)
        return [video_tools.number_of(image) for image in images]

    return take


def test_the_last_frame_follows_the_grid(taken):
    assert taken(Preprocessing(fps=2, last_frame=True)) == [0, 12, 24, 36, 47]


def test_segments_are_cut_from_every_frame(taken):
    assert taken(Preprocessing(segments=3)) == list(range(48))


def test_a_grid_in_a_clip_starts_at_its_start(taken):
    assert taken(Preprocessing(fps=4), clip=(0.5, 1.5)) == [12, 18, 24, 30]
    assert taken(Preprocessing(fps=4, last_frame=True), clip=(0.5, 1.5)) == [12, 18, 24, 30, 35]


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ((0.5, 1.0), range(12, 24)),
        ((0.51, 0.99), range(12, 24)),
        ((1.5, 9.0), range(36, 48)),
        ((0.0, 0.001), range(1)),
    ],
)
def test_every_frame_of_a_clip(taken, clip, expected):
    assert taken(Preprocessing(segments=3), clip=clip) == list(expected)


@pytest.mark.parametrize("clip", [(1.0, 1.0), (-1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_an_invalid_clip(taken, clip):
    with pytest.raises(ConfigError, match="clip="):
        taken(Preprocessing(), clip=clip)


def test_a_clip_after_the_movies_end(taken):
    with pytest.raises(VideoError, match=r"clip from 2 to 3 s: the video ends after 2 s"):
        taken(Preprocessing(), clip=(2.0, 3.0))


def test_a_movie_that_lasts_for_years_is_refused_before_its_samples_take_memory(plain):
    movie = scan(plain)
    start, second = movie.index.start, round(1 / movie.index.time_base)

    def samples(seconds, fps):
        lasting = dataclasses.replace(movie.index, end=start + int(seconds * second))
        return len(dataclasses.replace(movie, index=lasting).sample(Preprocessing(fps=fps)))

    assert samples(10_000, 500.0) == MAX_SAMPLES
    with pytest.raises(VideoError, match=r"lasts 10,000 days, or 864,000,000 frames at fps=1; at most 5,000,000"):
        samples(86_400 * 10_000, 1.0)
