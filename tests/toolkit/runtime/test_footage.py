"""Black, still and short movies: from frames that are made here, and from videos that are encoded and decoded."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vis4mer
from vis4mer.runtime.footage import Footage

Frames = NDArray[np.uint8]


def footage(*batches: Frames) -> Footage:
    watched = Footage()
    for batch in batches:
        watched.add(batch)
    return watched


def frames(*values: int) -> Frames:
    """Frames of one grey each."""
    return np.stack([np.full((8, 8, 3), value, np.uint8) for value in values])


def with_pixel(batch: Frames, value: int) -> Frames:
    changed = batch.copy()
    changed[-1, 5, 3, 1] = value
    return changed


@pytest.mark.parametrize(
    ("batches", "black"),
    [
        ([frames(0, 0)], True),
        ([frames(0, 16), frames(7)], True),
        ([frames(0, 17)], False),
        ([frames(0, 0), frames(0, 255, 0), frames(0)], False),
        ([with_pixel(frames(0, 0), 17)], False),
        ([], False),
    ],
)
def test_black_means_that_no_channel_of_any_frame_exceeds_the_limit(batches: Sequence[Frames], black: bool) -> None:
    assert footage(*batches).black is black


@pytest.mark.parametrize(
    ("batches", "still"),
    [
        ([frames(90, 90), frames(90)], True),
        ([frames(90), frames(102)], True),
        ([frames(90), frames(103)], False),
        ([frames(*range(90, 100)), frames(*range(100, 110))], False),  # a fade, slow from each frame to the next
        ([frames(90, 90), with_pixel(frames(90, 90), 103)], False),
        ([frames(90)], False),  # a single frame has nothing to differ from
        ([], False),
    ],
)
def test_still_means_that_no_channel_of_any_pixel_varies_beyond_the_limit(
    batches: Sequence[Frames], still: bool
) -> None:
    assert footage(*batches).still is still


@pytest.fixture
def notes(tiny_bundle: Path, make_video: Any, tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Returns the notes on a video of the given colours, one a second, that is encoded and decoded again."""
    classifier = vis4mer.load(tiny_bundle, device="cpu")

    def classify(colours: Sequence[tuple[int, int, int]]) -> tuple[str, ...]:
        return classifier(make_video(tmp_path / "video.mkv", colours), batch_size=3).notes

    return classify


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ([(0, 0, 0)] * 10, ("every frame is black",)),
        ([(80, 120, 40)] * 10, ("the picture does not change",)),
        ([(24, 20, 30), (40, 32, 20)] * 5, ()),  # dark, but not black
        ([(80, 120, 40)] * 60 + [(200, 30, 40)] * 10, ()),  # a still minute
        ([(200, 30, 40)] + [(80, 120, 40)] * 60, ()),
        ([(80, 120, 40), (200, 30, 40)], ("2 s is less than half of the model's window of 5 s; the rest is padded",)),
        ([(80, 120, 40), (200, 30, 40), (0, 0, 0)], ()),  # padded, but more than half
    ],
)
def test_notes_on_real_videos(
    notes: Callable[..., tuple[str, ...]], colours: Sequence[tuple[int, int, int]], expected: Sequence[str]
) -> None:
    found = notes(colours)
    assert len(found) == len(expected)
    assert all(note.startswith(start) for note, start in zip(found, expected, strict=True))


def test_a_note_is_one_warning_and_part_of_the_json(
    tiny_bundle: Path, make_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = make_video(tmp_path / "black.mkv", [(0, 0, 0)] * 2)
    with caplog.at_level(logging.WARNING, "vis4mer"):
        values = vis4mer.load(tiny_bundle, device="cpu")(video).to_dict()
    black, short = values["notes"]
    assert black == "every frame is black"
    assert "less than half" in short
    assert caplog.messages == [f"video={str(video)!r}: {note}" for note in values["notes"]]
