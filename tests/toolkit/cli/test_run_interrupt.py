"""`vis4mer run`: Ctrl-C at any moment."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper

from vis4mer.errors import VideoError
from vis4mer.runtime.bundle import BundleWriter
from vis4mer.runtime.classifier import Classifier
from vis4mer.video import open_video

Run = Callable[..., Result]


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
    """Calls `act` in place of the outcome of that number, counted from 1."""
    classify = Classifier.map

    def classify_or_act(*arguments: Any, **options: Any) -> Any:
        for count, outcome in enumerate(classify(*arguments, **options), start=1):
            if count == number:
                act()
            yield outcome

    monkeypatch.setattr(Classifier, "map", classify_or_act)


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
classify = Classifier.map

def stuck(*arguments, **options):
    outcomes = classify(*arguments, **options)
    yield next(outcomes)
    mutex = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    print("stuck", flush=True)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)  # does not return, not for a signal either

Classifier.map = stuck
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
classify = Classifier.map

def interrupted(*arguments, **options):
    outcomes = classify(*arguments, **options)
    yield next(outcomes)
    if sys.argv.pop() == "fill":
        os.set_blocking(1, False)
        try:
            while os.write(1, b" "):
                pass
        except BlockingIOError:
            os.set_blocking(1, True)
    raise KeyboardInterrupt

Classifier.map = interrupted
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


def test_an_interrupt_keeps_results_that_wait_for_an_earlier_movie(
    run: Run, movie: Path, make_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = make_video(tmp_path / "slow.mkv", [(1, 2, 3)] * 5)
    reading, others_done = threading.Event(), threading.Event()

    def open_late(video: Any, **options: Any) -> Any:
        if str(video) == str(slow):
            reading.set()
            assert others_done.wait(30)
            raise VideoError("too late")
        return open_video(video, **options)

    def interrupt_and_release() -> None:
        assert reading.is_set()
        others_done.set()
        raise KeyboardInterrupt

    monkeypatch.setattr("vis4mer.runtime.classifier.open_video", open_late)
    monkeypatch.setattr("vis4mer.cli.results._stdout_is_ready", lambda: True)
    results = {}
    for form, arguments in (("stdout", ()), ("file", ("-o", tmp_path / "result.json"))):
        reading.clear()
        others_done.clear()
        with monkeypatch.context() as patches:
            interrupt_at(patches, 3, interrupt_and_release)
            result = run(slow, *[movie] * 5, "--jobs", "2", "--output-format", "json", *arguments)
        assert result.exit_code == 130
        assert result.stderr.startswith("vis4mer: interrupted: 2 of 6 videos done\n")
        results[form] = result.stdout
    results["file"] = (tmp_path / "result.json").read_text()
    assert results["file"] == results["stdout"]
    assert [values["video"] for values in json.loads(results["file"])] == [str(movie)] * 2


def test_ctrl_c_ends_several_movies_in_flight(vis4mer_command: list[str], movie: Path, tmp_path: Path) -> None:
    program = """
import signal, sys, threading, time
from vis4mer.cli.main import main
from vis4mer.runtime.stages import Stages
encode, calls = Stages.encode_together, []

def slow(stages, batches):
    calls.append(None)
    if len(calls) == 8:
        print("at work", flush=True)
    time.sleep(0.01 if len(calls) < 8 else 0.2)
    return encode(stages, batches)

Stages.encode_together = slow
main()
"""
    output = tmp_path / "result.json"
    arguments = [*vis4mer_command[3:], *[str(movie)] * 30, "--jobs", "3", "--batch-size", "4", "-o", str(output)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.startswith("vis4mer: interrupted: ")
    n_done = int(stderr.split()[2])
    assert n_done < 30
    assert output.exists() is (n_done > 0)
    if n_done:
        assert len(json.loads(output.read_text())) == n_done
