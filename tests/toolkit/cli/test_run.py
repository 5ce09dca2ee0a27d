import csv
import errno
import io
import itertools
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from vis4mer.cli.main import main
from vis4mer.runtime.bundle import BundleWriter
from vis4mer.runtime.classifier import Classifier

Run = Callable[..., Result]


@pytest.fixture
def run(tiny_bundle: Path) -> Run:
    """Runs `vis4mer run --bundle TINY --device cpu` with further arguments; stdout and stderr apart."""

    def invoke(*arguments: Any) -> Result:
        fixed = ["run", "--bundle", str(tiny_bundle), "--device", "cpu"]
        return CliRunner().invoke(main, [*fixed, *map(str, arguments)])

    return invoke


@pytest.fixture
def vis4mer_command(tiny_bundle: Path) -> list[str]:
    return [sys.executable, "-m", "vis4mer.cli.main", "run", "--bundle", str(tiny_bundle), "--device", "cpu"]


def test_the_sample_model_is_announced(movie: Path) -> None:
    for quiet, announced in (([], True), (["--quiet"], False)):
        result = CliRunner().invoke(main, ["run", str(movie), "--device", "cpu", *quiet])
        assert result.exit_code == 0
        assert ("using the sample model" in result.stderr) is announced


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


def test_a_url_is_refused(run: Run, movie: Path) -> None:
    result = run("https://example.org/a.mp4", movie)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "vis4mer: error: video='https://example.org/a.mp4': URLs are not opened; download it first\n"
    )
    assert str(movie) in result.stdout


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
    assert only_result(result)["video"] == str(movie)
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


@pytest.mark.parametrize("suffix", ["png", "HTML"])
def test_a_timeline_is_drawn_beside_the_result(run: Run, movie: Path, tmp_path: Path, suffix: str) -> None:
    result = run(movie, "--output-format", "json", "--timeline", tmp_path / f"timeline.{suffix}")
    assert result.exit_code == 0
    assert only_result(result)["video"] == str(movie)
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


def test_hostile_names_cannot_act_on_the_terminal(run: Run, make_video: Any, tmp_path: Path) -> None:
    name = "[red]a\x1b[2J\nb\u202e\udcff.mkv"
    video = make_video(tmp_path / name, [(1, 2, 3)] * 5)
    result = run(video, tmp_path / "gone\x1b]0;x\x07\n.mkv")
    assert "[red]a\\x1b[2J\\nb\\u202e\\udcff.mkv" in result.stdout.replace("\n", "")
    for text in (result.stdout, result.stderr):
        assert all(character.isprintable() or character == "\n" for character in text)
    values = only_result(run(video, "--output-format", "json"))
    assert values["video"] == str(video)
    rows = run(video, "--output-format", "csv").stdout_bytes
    assert os.fsencode(video) in rows


def test_damage_is_reported_on_stderr_and_in_the_result(run: Run, movie: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(movie.read_bytes()[: movie.stat().st_size * 3 // 4])
    result = run(damaged, "--output-format", "json")
    assert result.exit_code == 0
    assert result.stderr.startswith("vis4mer: warning: ")
    assert only_result(result)["damage"]["truncated"] is True
    assert run(damaged, "--output-format", "json", "--quiet").stderr == ""


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


def endless_bundle(path: Path, tiny_model: Any, tiny_config: Any) -> Path:
    """A bundle whose encoder never returns from native code."""
    scalar = helper.make_tensor_value_info("x", TensorProto.FLOAT, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            scalar,
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
        ],
    )
    encoder = onnx.load_from_string(tiny_model.onnx_encoder())
    encoder.graph.node.insert(1, helper.make_node("Loop", ["for_ever", "go", "start"], ["end"], body=body))
    encoder.graph.node.append(helper.make_node("Add", ["late", "end"], ["tokens"]))
    encoder.graph.node[-2].output[0] = "late"
    encoder.graph.node[2].input[0] = "floats"
    encoder.graph.initializer.extend(
        [
            helper.make_tensor("for_ever", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("go", TensorProto.BOOL, [], [True]),
            helper.make_tensor("start", TensorProto.FLOAT, [], [1.0]),
        ]
    )
    with BundleWriter(path) as writer:
        writer.path("encoder.onnx").write_bytes(encoder.SerializeToString())
        for name in tiny_config.heads:
            writer.path(f"{name}.onnx").write_bytes(tiny_model.onnx_head(name))
        writer.commit(format="onnx", precision="fp32", model=tiny_config)
    return path


def test_ctrl_c_ends_at_once_even_in_native_code(
    movie: Path, tiny_model: Any, tiny_config: Any, tmp_path: Path
) -> None:
    bundle = endless_bundle(tmp_path / "endless", tiny_model, tiny_config)
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "vis4mer.cli.main", "run", "--bundle", str(bundle), "--device", "cpu"]
    terminal, stderr = pty.openpty()
    with subprocess.Popen(
        [*command, str(movie), "-o", str(output)], stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        os.close(stderr)
        seen = b""
        while seen.count(b"0/12") < 10:  # the progress bar, redrawn while the encoder runs
            seen += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=20) == 130
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""
    try:
        while chunk := os.read(terminal, 4096):
            seen += chunk
    except OSError:
        pass  # the other end is closed
    os.close(terminal)
    assert b"Traceback" not in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is shown again"
    assert [path.name for path in tmp_path.iterdir()] == ["endless"]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Calls `act` just before the movie of that number, counted from 1, is classified."""
    classify, calls = Classifier.__call__, itertools.count(1)

    def classify_or_act(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            act()
        return classify(*arguments, **options)

    monkeypatch.setattr(Classifier, "__call__", classify_or_act)


def interrupted() -> None:
    raise KeyboardInterrupt


def test_an_interrupt_between_native_calls_exits_with_130(
    run: Run, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 1, interrupted)
    result = run(movie, "-o", tmp_path / "result.json")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "vis4mer: interrupted: 0 of 1 videos done\n"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_does_not_lose_what_is_done(
    run: Run, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 3, interrupted)
    result = run(*[movie] * 4, "--output-format", "json", "-o", tmp_path / "result.json")
    assert result.exit_code == 130
    wrote = f"vis4mer: info: wrote {tmp_path / 'result.json'}\n"
    assert result.stderr == f"vis4mer: interrupted: 2 of 4 videos done\n{wrote}"
    assert [values["video"] for values in json.loads((tmp_path / "result.json").read_text())] == [str(movie)] * 2
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupt_whose_results_go_elsewhere_states_where(
    run: Run, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def remove_and_interrupt() -> None:
        folder.rmdir()
        raise KeyboardInterrupt

    interrupt_at(monkeypatch, 2, remove_and_interrupt)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = folder / "result.json"
    result = run(*[movie] * 2, "-o", output)
    assert result.exit_code == 130
    (rescued,) = tmp_path.iterdir()
    assert result.stderr == (
        "vis4mer: interrupted: 1 of 2 videos done\n"
        f"vis4mer: error: --output='{output}': cannot be written: No such file or directory; choose another place. "
        f"The results are in {rescued}\n"
    )
    assert [values["video"] for values in json.loads(rescued.read_text())] == [str(movie)]


def test_an_interrupt_in_native_code_does_not_lose_what_is_done(
    vis4mer_command: list[str], movie: Path, tmp_path: Path
) -> None:
    program = """
import ctypes
from vis4mer.cli.main import main
from vis4mer.runtime.classifier import Classifier
classify, calls = Classifier.__call__, []

def stuck(*arguments, **options):
    calls.append(None)
    if len(calls) == 2:
        mutex = ctypes.create_string_buffer(64)
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
        print("stuck", flush=True)
        ctypes.CDLL(None).pthread_mutex_lock(mutex)  # does not return, not for a signal either
    return classify(*arguments, **options)

Classifier.__call__ = stuck
main()
"""
    output = tmp_path / "result.json"
    arguments = [*vis4mer_command[3:], *[str(movie)] * 3, "--output-format", "json", "-o", str(output)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stderr == f"vis4mer: interrupted: 1 of 3 videos done\nvis4mer: info: wrote {output}\n"
    assert [values["video"] for values in json.loads(output.read_text())] == [str(movie)]


@pytest.mark.parametrize("reader_waits", [True, False])
def test_an_interrupt_completes_the_json_on_stdout_unless_its_reader_has_stopped(
    vis4mer_command: list[str], movie: Path, reader_waits: bool
) -> None:
    program = """
import os
import sys
from vis4mer.cli.main import main
from vis4mer.runtime.classifier import Classifier
classify, calls = Classifier.__call__, []

def interrupted(*arguments, **options):
    calls.append(None)
    if len(calls) == 2:
        if sys.argv.pop() == "fill":
            os.set_blocking(1, False)
            try:
                while os.write(1, b" "):
                    pass
            except BlockingIOError:
                os.set_blocking(1, True)
        raise KeyboardInterrupt
    return classify(*arguments, **options)

Classifier.__call__ = interrupted
main(sys.argv[1:-1])
"""
    arguments = [*vis4mer_command[3:], *[str(movie)] * 3, "--output-format", "json"]
    arguments.append("read" if reader_waits else "fill")
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            text = process.stdout.read() if reader_waits else ""
            assert process.wait(timeout=20) == 130
        finally:
            process.kill()
    if reader_waits:
        assert [values["video"] for values in json.loads(text)] == [str(movie)]


def test_what_is_said_about_the_command_line_names_its_options(run: Run, movie: Path) -> None:
    assert run(movie, "--stride", "1.2").stderr == (
        "vis4mer: warning: --stride=1.2: windows start at sampled frames, 1 per second; using 1 s\n"
    )
    result = run(movie, "--precision", "bf16")
    assert (result.exit_code, result.stderr.startswith("vis4mer: error: --precision='bf16': ")) == (1, True)


def test_notes_on_the_movie_are_in_every_form(run: Run, make_video: Any, tmp_path: Path) -> None:
    black = make_video(tmp_path / "black.mkv", [(0, 0, 0)] * 10)
    result = run(black, "--output-format", "json")
    assert only_result(result)["notes"] == ["every frame is black"]
    assert result.stderr == f"vis4mer: warning: video={str(black)!r}: every frame is black\n"
    assert "note: every frame is black" in run(black, "--quiet").stdout
    for windows in ([], ["--windows"]):
        rows = csv.DictReader(io.StringIO(run(black, "--output-format", "csv", *windows).stdout))
        assert {row["notes"] for row in rows} == {"every frame is black"}


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
