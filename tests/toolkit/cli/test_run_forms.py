"""`vis4mer run`: the results as a table, JSON, JSONL and CSV."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]


def only_result(result: Result) -> dict[str, Any]:
    """Returns the one object in the JSON on stdout."""
    (values,) = json.loads(result.stdout)
    assert isinstance(values, dict)
    return values


def test_json_is_an_array_even_for_one_video(run: Run, movie: Path) -> None:
    result = run(movie, "--output-format", "json")
    assert result.exit_code == 0
    assert result.stderr == ""
    (values,) = json.loads(result.stdout)
    assert values["video"] == str(movie)
    assert sum(values["heads"]["colour"]["probabilities"].values()) == pytest.approx(1)
    assert len(values["heads"]["colour"]["windows"]) == 5


def test_a_video_that_fails_does_not_stop_the_others_and_appears_with_its_error(run: Run, movie: Path) -> None:
    result = run(movie, "nowhere.mp4", movie, "--output-format", "json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert [entry["video"] for entry in values] == [str(movie), "nowhere.mp4", str(movie)]
    assert values[1] == {"video": "nowhere.mp4", "error": "video='nowhere.mp4': no such file"}
    assert result.stderr == (
        "vis4mer: error: video='nowhere.mp4': no such file\nvis4mer: info: 2 of 3 movies classified; 1 failed\n"
    )


def test_failures_appear_in_jsonl_and_csv(run: Run, movie: Path) -> None:
    lines = run("nowhere.mp4", movie, "--output-format", "jsonl").stdout.splitlines()
    assert json.loads(lines[0]) == {"video": "nowhere.mp4", "error": "video='nowhere.mp4': no such file"}
    assert json.loads(lines[1])["video"] == str(movie)
    for windows in ([], ["--windows"]):
        text = run("nowhere.mp4", movie, "--output-format", "csv", *windows).stdout
        failed, *others = csv.DictReader(io.StringIO(text))
        assert {name: value for name, value in failed.items() if value} == {
            "video": "nowhere.mp4",
            "error": "video='nowhere.mp4': no such file",
        }
        assert {row["error"] for row in others} == {""}


def test_if_every_video_fails_the_results_parse(run: Run) -> None:
    result = run("a.mp4", "b.mp4", "--output-format", "json")
    assert result.exit_code == 1
    assert [set(entry) for entry in json.loads(result.stdout)] == [{"video", "error"}] * 2
    assert result.stderr.endswith("vis4mer: info: 0 of 2 movies classified; 2 failed\n")


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_a_closing_line_counts_several_movies(run: Run, movie: Path, form: str) -> None:
    arguments = (movie, movie, "--output-format", form)
    assert run(*arguments).stderr == "vis4mer: info: 2 of 2 movies classified\n"
    assert run(*arguments, "--quiet").stderr == ""


def test_jsonl_is_one_object_a_line(run: Run, movie: Path) -> None:
    lines = run(movie, movie, "--output-format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["video"] for line in lines] == [str(movie)] * 2


def test_csv_has_a_row_for_each_label_and_each_value(run: Run, movie: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(movie, "--output-format", "csv").stdout)))
    values = only_result(run(movie, "--output-format", "json"))
    colour = values["heads"]["colour"]["probabilities"]
    assert [(row["head"], row["label"]) for row in rows] == [*(("colour", label) for label in colour), ("light", "")]
    assert [float(row["probability"]) for row in rows[:3]] == pytest.approx(list(colour.values()))
    assert float(rows[3]["value"]) == pytest.approx(values["heads"]["light"]["value"])
    assert rows[0]["video"] == str(movie)


def test_the_table_shows_labels_by_probability(run: Run, movie: Path) -> None:
    result = run(movie)
    values = only_result(run(movie, "--output-format", "json"))["heads"]["colour"]
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    places = [
        result.stdout.index(f"{label} ")
        for label in sorted(values["probabilities"], key=lambda x: -values["probabilities"][x])
    ]
    assert places == sorted(places)
    assert f"{max(values['probabilities'].values()):.1%}" in result.stdout
    assert "0:12 · 12 frames" in result.stdout


def test_the_table_has_no_trailing_blanks_and_names_its_windows(run: Run, movie: Path) -> None:
    one, two = run(movie).stdout, run(movie, movie, "--stride", "1").stdout
    assert "5 windows of 5 s" in one
    assert "8 windows of 5 s" in two
    assert all(line == line.rstrip() for line in two.splitlines())
    assert not one.endswith("\n\n")
    assert two == "\n".join([run(movie, "--stride", "1").stdout] * 2)


def test_csv_with_windows_has_a_row_for_each_window_and_label(run: Run, movie: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(movie, "--output-format", "csv", "--windows").stdout)))
    heads = only_result(run(movie, "--output-format", "json"))["heads"]
    expected = [
        ("colour", window["start"], window["end"], label, probability)
        for window in heads["colour"]["windows"]
        for label, probability in zip(heads["colour"]["probabilities"], window["probabilities"], strict=True)
    ]
    expected += [("light", window["start"], window["end"], "", window["value"]) for window in heads["light"]["windows"]]
    assert [
        (row["head"], float(row["start"]), float(row["end"]), row["label"], float(row["probability"] or row["value"]))
        for row in rows
    ] == expected
    assert {row["video"] for row in rows} == {str(movie)}


def test_notes_on_the_movie_are_in_every_form(run: Run, make_video: Any, tmp_path: Path) -> None:
    black = make_video(tmp_path / "black.mkv", [(0, 0, 0)] * 10)
    result = run(black, "--output-format", "json")
    assert only_result(result)["notes"] == ["every frame is black"]
    assert result.stderr == f"vis4mer: warning: video={str(black)!r}: every frame is black\n"
    assert "note: every frame is black" in run(black, "--quiet").stdout
    for windows in ([], ["--windows"]):
        rows = csv.DictReader(io.StringIO(run(black, "--output-format", "csv", *windows).stdout))
        assert {row["notes"] for row in rows} == {"every frame is black"}
