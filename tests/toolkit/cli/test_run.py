"""`vis4mer run`: options, messages and exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner, Result

from vis4mer.cli.main import main

Run = Callable[..., Result]


def test_the_sample_model_is_announced(movie: Path) -> None:
    for quiet, announced in (([], True), (["--quiet"], False)):
        result = CliRunner().invoke(main, ["run", str(movie), "--device", "cpu", *quiet])
        assert result.exit_code == 0
        assert ("using the sample model" in result.stderr) is announced


def test_a_url_is_refused(run: Run, movie: Path) -> None:
    result = run("https://example.org/a.mp4", movie)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "vis4mer: error: video='https://example.org/a.mp4': URLs are not opened; download it first\n"
    )
    assert str(movie) in result.stdout


@pytest.mark.parametrize("suffix", ["png", "HTML"])
def test_a_timeline_is_drawn_beside_the_result(run: Run, movie: Path, tmp_path: Path, suffix: str) -> None:
    result = run(movie, "--output-format", "json", "--timeline", tmp_path / f"timeline.{suffix}")
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["video"] == str(movie)
    start = (tmp_path / f"timeline.{suffix}").read_bytes()[:8]
    assert start == (b"\x89PNG\r\n\x1a\n" if suffix == "png" else b"<!DOCTYP")


def test_a_movie_is_scanned_once_for_prediction_and_timeline(
    run: Run, movie: Path, tmp_path: Path, scans: list[str]
) -> None:
    assert run(movie, "--timeline", tmp_path / "timeline.png").exit_code == 0
    assert scans == [str(movie)]
    assert (tmp_path / "timeline.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("a.mp4", "--timeline", "t.jpg"), "must end in .png or .html"),
        (("a.mp4", "b.mp4", "--timeline", "t.png"), "draws one video"),
        (("a.mp4", "--batch-size", "0"), "--batch-size"),
        (("a.mp4", "--jobs", "0"), "--jobs"),
        (("a.mp4", "--stride", "fast"), "--stride"),
        (("a.mp4", "--stride", "0"), "must be a positive number of seconds"),
        (("a.mp4", "--stride", "nan"), "must be a positive number of seconds"),
        (("a.mp4", "--stride", "inf"), "must be a positive number of seconds"),
        (("a.mp4", "--device", "abacus"), "must be auto, cpu, cuda or cuda:N"),
        (("a.mp4", "--output-format", "xml"), "--output-format"),
        (("a.mp4", "--video-decoder", "vlc"), "--video-decoder"),
        (("a.mp4", "--windows"), "--windows applies to CSV only"),
        (("a.mp4", "--windows", "-o", "a.json"), "--windows applies to CSV only"),
        (("a.mp4", "--frobnicate"), "--frobnicate"),
    ],
)
def test_usage_errors_exit_with_2(run: Run, arguments: Sequence[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bundle", "/nowhere"), "does not exist"),
        (("--device", "cuda:99"), "device='cuda:99'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exits_with_1(
    run: Run, movie: Path, arguments: Sequence[str], message: str
) -> None:
    result = run(movie, *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("vis4mer: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_several_movies_at_once_change_no_output(
    run: Run, movie: Path, make_video: Any, tmp_path: Path, form: str
) -> None:
    short = make_video(tmp_path / "short.mkv", [(1, 2, 3)])
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(movie.read_bytes()[:300])
    videos = [movie, short, broken, "https://example.org/a.mp4", short, movie, tmp_path / "absent.mkv", short]
    alone = run(*videos, "--output-format", form)
    assert alone.exit_code == 1
    assert alone.stderr.endswith("vis4mer: info: 5 of 8 movies classified; 3 failed\n")
    for jobs in (3, 20):
        together = run(*videos, "--output-format", form, "--jobs", jobs)
        assert (together.exit_code, together.stdout) == (1, alone.stdout)
        lines, expected = together.stderr.splitlines(), alone.stderr.splitlines()
        assert sorted(lines) == sorted(expected)
        assert lines[-1] == expected[-1]


def test_hostile_names_cannot_act_on_the_terminal(run: Run, make_video: Any, tmp_path: Path) -> None:
    name = "[red]a\x1b[2J\nb\u202e\udcff.mkv"
    video = make_video(tmp_path / name, [(1, 2, 3)] * 5)
    result = run(video, tmp_path / "gone\x1b]0;x\x07\n.mkv")
    assert "[red]a\\x1b[2J\\nb\\u202e\\udcff.mkv" in result.stdout.replace("\n", "")
    for text in (result.stdout, result.stderr):
        assert all(character.isprintable() or character == "\n" for character in text)
    (values,) = json.loads(run(video, "--output-format", "json").stdout)
    assert values["video"] == str(video)
    rows = run(video, "--output-format", "csv").stdout_bytes
    assert os.fsencode(video) in rows


def test_damage_is_reported_on_stderr_and_in_the_result(run: Run, movie: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(movie.read_bytes()[: movie.stat().st_size * 3 // 4])
    result = run(damaged, "--output-format", "json")
    assert result.exit_code == 0
    assert result.stderr.startswith("vis4mer: warning: ")
    assert json.loads(result.stdout)[0]["damage"]["truncated"] is True
    assert run(damaged, "--output-format", "json", "--quiet").stderr == ""


def test_a_movie_and_its_timeline_need_the_base_install_only(
    vis4mer_command: list[str], movie: Path, tmp_path: Path
) -> None:
    forbidden = ("torch", "torchvision", "timm", "onnx", "safetensors", "huggingface_hub", "nvidia", "matplotlib")
    program = f"import sys; sys.modules.update(dict.fromkeys({forbidden})); from vis4mer.cli.main import main; main()"
    for suffix in ("png", "html"):
        timeline = tmp_path / f"timeline.{suffix}"
        arguments = [*vis4mer_command[3:], str(movie), "--output-format", "json", "--timeline", str(timeline)]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
        assert (done.returncode, done.stderr.decode()) == (0, f"vis4mer: info: wrote {timeline}\n")
        assert json.loads(done.stdout)[0]["heads"]["colour"]["label"]
        assert timeline.stat().st_size > 1000


def test_what_is_said_about_the_command_line_names_its_options(run: Run, movie: Path) -> None:
    assert run(movie, "--stride", "1.2").stderr == (
        "vis4mer: warning: --stride=1.2: windows start at sampled frames, 1 per second; using 1 s\n"
    )
    result = run(movie, "--precision", "bf16")
    assert (result.exit_code, result.stderr.startswith("vis4mer: error: --precision='bf16': ")) == (1, True)


@pytest.mark.parametrize(
    ("before", "incomplete"),
    [
        (["run"], "sam"),
        (["run", "a.mp4"], "sam"),
        (["run", "--bundle"], "sam"),
        (["run", "a.mp4", "-o"], "res"),
        (["run", "a.mp4", "--output"], ""),
        (["run", "a.mp4", "--timeline"], "time"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_paths(shell: str, before: list[str], incomplete: str) -> None:
    complete = get_completion_class(shell)
    assert complete is not None
    (completion,) = complete(main, {}, "vis4mer", "_VIS4MER_COMPLETE").get_completions(before, incomplete)
    assert (completion.type, completion.value) == ("file", incomplete)
