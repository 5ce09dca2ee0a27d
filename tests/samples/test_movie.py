"""The embedded sample: a movie, a small model, and the correct label."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np

import vis4mer
from samples.generator.film import Format, render
from samples.generator.story import Story

SEED = 2425  # as in the first example of make_movie


def test_movie_is_small_h264_of_60_to_90_seconds(samples: Path) -> None:
    path = samples / "movie.mp4"
    assert path.stat().st_size < 2e6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert 24 <= stream.average_rate <= 25
        assert 60 <= container.duration / av.time_base <= 90
        assert stream.width * 9 == stream.height * 16


def test_movie_shows_its_story(samples: Path) -> None:
    drawn = render(Story.from_seed(SEED), Format(fps=24, width=640, height=360), (0, 4))
    with av.open(str(samples / "movie.mp4")) as container:
        for frame, picture in zip(container.decode(video=0), drawn, strict=False):
            assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - picture).mean() < 8


def test_bundle_is_small(samples: Path) -> None:
    files = list((samples / "bundle").iterdir())
    assert {"manifest.json", "encoder.onnx"} < {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 8e6


def test_run_prints_the_correct_label(samples: Path) -> None:
    command = [sys.executable, "-c", "from vis4mer.cli.main import main; main()", "run", str(samples / "movie.mp4")]
    done = subprocess.run(
        [*command, "--output-format", "json", "--device", "cpu"], capture_output=True, text=True, check=True
    )
    (prediction,) = json.loads(done.stdout)
    (head,) = prediction["heads"].values()
    assert head["label"] == Story.from_seed(SEED).label


def test_only_windows_with_both_door_scenes_are_certain(samples: Path) -> None:
    """They are certain of the label; windows without the first door scene are not."""
    story = Story.from_seed(SEED)
    prediction = vis4mer.load(samples / "bundle", device="cpu")(samples / "movie.mp4")
    index = list(prediction.probabilities).index(story.label)
    first, last = story.decisive_starts()
    certain = [w.probabilities[index] for w in prediction.windows if first + 1 <= w.start <= last - 1]
    uncertain = [w.probabilities[index] for w in prediction.windows if w.start >= story.leaving.end]
    assert min(certain) > 0.95
    assert 0.3 < min(uncertain) <= max(uncertain) < 0.7
