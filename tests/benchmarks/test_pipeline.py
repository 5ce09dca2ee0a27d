"""The stages that the benchmark composes and times are those of a prediction."""

import subprocess
import sys
from pathlib import Path

import pytest

import vis4mer
from benchmarks.pipeline import STAGES, open_planned, run_ahead, run_in_turn

ROOT = Path(__file__).parents[2]
MOVIE = ROOT / "samples" / "movie.mp4"


def test_stages_in_turn_return_the_classifiers_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vis4mer.load(ROOT / "samples" / "bundle", device="cpu")
    monkeypatch.setattr("benchmarks.pipeline.HEAD", next(iter(model.model.heads)))
    in_turn, ahead = run_in_turn(model, MOVIE, 16, open_planned), run_ahead(model, MOVIE, 16)
    assert in_turn.probabilities == ahead.probabilities == list(model(MOVIE, batch_size=16).probabilities.values())
    assert tuple(in_turn.stages) == STAGES
    assert sum(in_turn.stages.values()) == pytest.approx(in_turn.wall)
    assert all(seconds > 0 for seconds in in_turn.stages.values())
    assert ahead.stages == {}


@pytest.mark.slow
def test_the_tiny_form_runs() -> None:
    command = [sys.executable, "-m", "benchmarks.pipeline", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for text in ("straightforward", "checkpoint, in turn", "bundle", "S4 decode", "peak memory:"):
        assert text in done.stdout
