"""`vis4mer run`: where the results go, and what happens if they cannot go there."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


def test_a_file_holds_what_stdout_would(run: Run, movie: Path, tmp_path: Path) -> None:
    for form in ("table", "json", "jsonl", "csv"):
        output = tmp_path / f"result.{form}"
        output.write_text("old")
        result = run(movie, "--output-format", form, "-o", output)
        assert (result.exit_code, result.stdout) == (0, "")
        assert output.read_text() == run(movie, "--output-format", form).stdout
        assert stat.S_IMODE(output.stat().st_mode) == 0o666 & ~_umask()
    assert len(list(tmp_path.iterdir())) == 4, "no temporary file is left"


@pytest.mark.parametrize("name", ["result.json", "result.JSONL", "result.csv", "result.txt"])
def test_the_form_follows_the_files_suffix_by_default(run: Run, movie: Path, tmp_path: Path, name: str) -> None:
    form = name.lower().partition(".")[2] if "txt" not in name else "table"
    run(movie, "-o", tmp_path / name)
    assert (tmp_path / name).read_text() == run(movie, "--output-format", form).stdout
    run(movie, "-o", tmp_path / name, "--output-format", "table")
    assert (tmp_path / name).read_text() == run(movie).stdout


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_link_stays_a_link_and_its_target_is_written(run: Run, movie: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert run(movie, "--output-format", "json", "-o", tmp_path / "link").exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "target").read_text())[0]["video"] == str(movie)


@pytest.mark.parametrize("option", ["-o", "--timeline"])
@pytest.mark.parametrize("place", ["nowhere/result.html", "folder.html"])
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    run: Run, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, place: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    monkeypatch.setattr("vis4mer.runtime.loading.load", lambda *_, **__: pytest.fail("the model was loaded"))
    result = run(movie, option, tmp_path / place, "--output-format", "table")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on which nothing can be made durable any more, unlike the temporary folder."""
    full, temporary = tmp_path / "full", tmp_path / "temporary"
    full.mkdir()
    temporary.mkdir()
    sync = os.fsync

    def fail_when_full(number: int) -> None:
        if Path(f"/proc/self/fd/{number}").readlink().is_relative_to(full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)

    monkeypatch.setattr("os.fsync", fail_when_full)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return full


def test_a_disk_that_fills_up_meanwhile_does_not_lose_the_work(
    run: Run, movie: Path, tmp_path: Path, full_disk: Path
) -> None:
    result = run(movie, "-o", full_disk / "result.json")
    assert (result.exit_code, result.stdout) == (1, "")
    (rescued,) = (tmp_path / "temporary").iterdir()
    assert json.loads(rescued.read_text())[0]["video"] == str(movie)
    assert result.stderr == (
        f"vis4mer: error: --output='{full_disk / 'result.json'}': cannot be written: No space left on device; "
        f"free some space, or choose another place. The results are in {rescued}\n"
    )
    assert list(full_disk.iterdir()) == []


def test_without_any_room_the_results_are_printed(
    run: Run, movie: Path, tmp_path: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(full_disk))
    monkeypatch.setenv("HOME", str(full_disk))
    result = run(movie, "-o", full_disk / "result.json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["video"] == str(movie)
    assert result.stderr.endswith("The results are in stdout\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "-"])
def test_a_redirected_file_is_not_replaced(
    vis4mer_command: list[str], movie: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    file = tmp_path / "file"
    shell = 'echo before; "$@"; echo after'
    command = ["sh", "-c", shell, "sh", *vis4mer_command, str(movie), "-o", target, "--output-format", "jsonl"]
    with file.open("w") as stdout:
        inode = os.fstat(stdout.fileno()).st_ino
        done = subprocess.run(command, cwd=tmp_path, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""
    before, result, after = file.read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert json.loads(result)["video"] == str(movie)
    assert file.stat().st_ino == inode


def test_another_descriptor_is_written_to_where_it_stands(
    vis4mer_command: list[str], movie: Path, tmp_path: Path
) -> None:
    shell = 'exec 3> file; echo before >&3; "$@"; echo after >&3'
    arguments = [*vis4mer_command, str(movie), "-o", "/dev/fd/3", "--output-format", "jsonl"]
    done = subprocess.run(["bash", "-c", shell, "bash", *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"", b"vis4mer: info: wrote /dev/fd/3\n")
    before, result, after = (tmp_path / "file").read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert json.loads(result)["video"] == str(movie)


@pytest.mark.parametrize("name", ["result", "result.xml", "result.json.bak"])
def test_an_unknown_suffix_is_a_usage_error_unless_the_format_is_given(
    run: Run, movie: Path, tmp_path: Path, name: str
) -> None:
    result = run(movie, "-o", tmp_path / name)
    assert result.exit_code == 2
    assert "ends in none of .json, .jsonl, .csv, .txt; use one, or set --output-format" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert run(movie, "-o", tmp_path / name, "--output-format", "csv").exit_code == 0
    assert (tmp_path / name).read_text() == run(movie, "--output-format", "csv").stdout


def test_files_that_are_written_are_named_unless_quiet(run: Run, movie: Path, tmp_path: Path) -> None:
    results, timeline = tmp_path / "results.json", tmp_path / "timeline.html"
    arguments = (movie, "-o", results, "--timeline", timeline)
    assert run(*arguments).stderr == f"vis4mer: info: wrote {timeline}\nvis4mer: info: wrote {results}\n"
    assert run(*arguments, "--quiet").stderr == ""


def test_a_pipe_is_written_to_and_not_replaced(run: Run, movie: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    assert run(movie, "--output-format", "json", "-o", pipe).exit_code == 0
    reader.join()
    assert json.loads(received[0])[0]["video"] == str(movie)
    assert pipe.is_fifo()


@pytest.mark.parametrize("option", ["-o", "--timeline"])
@pytest.mark.parametrize("way", ["itself", "symbolic", "hard", "missing"])
def test_a_result_never_overwrites_its_movie(run: Run, movie: Path, tmp_path: Path, option: str, way: str) -> None:
    video = tmp_path / "movie.png"
    target = video if way in ("itself", "missing") else tmp_path / "link.png"
    if way != "missing":
        video.write_bytes(movie.read_bytes())
    if way == "symbolic":
        target.symlink_to(video)
    elif way == "hard":
        target.hardlink_to(video)
    result = run(video, option, target)
    assert result.exit_code == 2
    assert "is one of the videos" in result.stderr
    assert not video.exists() if way == "missing" else video.read_bytes() == movie.read_bytes()


def test_the_results_and_the_timeline_are_two_files(run: Run, movie: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    result = run(movie, "-o", tmp_path / "a.html", "--timeline", tmp_path / "folder" / "a.html")
    assert result.exit_code == 2
    assert "choose two files" in result.stderr
    assert not (tmp_path / "a.html").exists()


def test_a_closed_pipe_is_quiet(vis4mer_command: list[str], movie: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*vis4mer_command, str(movie)], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("shell", "message"),
    [('"$@" >&-', "stdout: is closed"), ('ulimit -f 0; "$@" > result', "stdout: cannot be written")],
)
def test_results_that_cannot_be_printed_are_an_error(
    vis4mer_command: list[str], movie: Path, tmp_path: Path, shell: str, message: str
) -> None:
    command = ["sh", "-c", shell, "sh", *vis4mer_command, str(movie)]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "-h"], ["inspect", ""], ["doctor"]])
def test_a_full_stdout_is_one_line(tiny_bundle: Path, arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "vis4mer.cli.main", *(argument or str(tiny_bundle) for argument in arguments)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("vis4mer: error: stdout: cannot be written: No space left on device")
    assert done.stderr.count("\n") == 1


def test_results_are_printed_even_if_stderr_is_closed(vis4mer_command: list[str], movie: Path) -> None:
    command = ["sh", "-c", '"$@" 2>&-', "sh", *vis4mer_command, str(movie), "--output-format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["video"] == str(movie)
