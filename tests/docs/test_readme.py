"""The README: short, with the set-up lines that continuous integration looks for, and figures that were measured."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

MOST_WORDS = 1300


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def results(root: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in (root / "benchmarks" / "results").glob("*.json")}


def test_it_is_short(readme: str) -> None:
    assert len(readme.split()) <= MOST_WORDS


@pytest.mark.parametrize(
    "line",
    [
        "python3 -m venv .venv && . .venv/bin/activate && pip install . && vis4mer run samples/movie.mp4",
        "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[test]' && pytest",
    ],
)
def test_set_up_lines_stand_alone(readme: str, line: str) -> None:
    assert line in readme.splitlines()


def test_links_lead_to_files(readme: str, root: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        if not target.startswith("https://"):
            assert (root / target.partition("#")[0]).exists(), target


def _row(rows: list[Mapping[str, Any]], **values: object) -> Mapping[str, Any]:
    (row,) = (row for row in rows if all(row[name] == value for name, value in values.items()))
    return row


def _pipeline(results: Mapping[str, Any]) -> list[str]:
    row = _row(results["pipeline"]["rows"], movie="360p", way="bundle", precision="bf16")
    (memory,) = (row for row in results["pipeline"]["memory"] if row["minutes"] == 120)
    return [
        f"{row['movie_seconds_per_second']:.1f} s of movie per second, {row['faster']:.1f} ×",
        f"{memory['peak_megabytes']:.0f} MB",
    ]


def _encoder(results: Mapping[str, Any]) -> list[str]:
    row = _row(results["encoder"]["rows"], way="pt2", dtype="bf16", batch=8)
    return [f"{row['frames_per_second']:.1f} frames/s"]


def _decoder(results: Mapping[str, Any]) -> list[str]:
    rows = results["decoder"]["rows"]
    ours = _row(rows, call="step", way="native", dtype="fp32")
    theirs = _row(rows, call="step", way="straightforward", dtype="fp32")
    memory = f"{ours['peak_bytes'] / 1e6:.0f} MB instead of {theirs['peak_bytes'] / 1e6:.0f} MB"
    return [f"{ours['faster_than_baseline']:.1f} × faster than the straightforward formulation, in {memory}"]


def _attention(results: Mapping[str, Any]) -> list[str]:
    row = _row(results["attention"]["rows"], call="step", mixer="softmax", L=11820)
    return [f"{row['times_s4_seconds']:.1f} × faster, {row['times_s4_bytes']:.1f} × less memory"]


def _head(results: Mapping[str, Any]) -> list[str]:
    row = _row(results["head"]["rows"], graph="onnx, auto")
    return [f"{row['seconds']:.2f} s per window, {row['faster_than_dft']:.0f} × faster"]


def _paper_model(results: Mapping[str, Any]) -> list[str]:
    rows = [row for row in results["paper_model"]["rows"] if row["precision"] == "fp32"]
    return [f"{max(graph['relative_l2'] for row in rows for graph in row['parity'].values()):.1e}"]


def _video(results: Mapping[str, Any]) -> list[str]:
    return [f"up to {max(row['decoding']['wall'] for row in results['video']['rows']):.1f} × faster"]


def _sample(results: Mapping[str, Any]) -> list[str]:
    rows = results["sample"]["rows"]
    whole, short = rows["whole movies"], rows["the same, repeated to fill a window"]
    shown = f"{100 * whole['accuracy']:.1f} %; shown only ten seconds, {100 * short['accuracy']:.1f} %"
    return [f"{whole['movies']} unseen movies", shown]


def _long_range(results: Mapping[str, Any]) -> list[str]:
    texts = []
    for entrant in ("ViS4mer", "Transformer"):
        values = _row(results["long_range"]["rows"], question="story", entrant=entrant)["accuracy"]["80"]
        texts.append(f"{entrant} {100 * sum(values) / len(values):.1f} %")
    return [", ".join(texts)]


@pytest.mark.parametrize(
    "texts",
    [_pipeline, _encoder, _decoder, _attention, _head, _paper_model, _video, _sample, _long_range],
    ids=lambda texts: texts.__name__.removeprefix("_"),
)
def test_figures_are_the_measured_ones(readme: str, results: dict[str, Any], texts: Any) -> None:
    command = f"`python -m benchmarks.{texts.__name__.removeprefix('_')}`"
    rows = [line for line in readme.splitlines() if line.endswith(f"{command} |")]
    assert rows, command
    for text in texts(results):
        assert any(text in row for row in rows), text
