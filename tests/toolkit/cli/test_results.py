"""The order of results, and interrupts while they are printed or written."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from vis4mer.cli import results as module
from vis4mer.cli.report import Form
from vis4mer.cli.results import Results
from vis4mer.errors import VideoError

FORM = Form(lambda prediction: "", lambda video, error: f"{video}: {error}\n")


@pytest.fixture
def write_and_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts the first write once it has written."""
    write = module.write_atomically

    def interrupted(path: str, data: bytes) -> None:
        monkeypatch.setattr(module, "write_atomically", write)
        write(path, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_atomically", interrupted)


def saved_twice(output: Path) -> bool:
    results = Results(FORM, str(output))
    results.fail(0, "a.mp4", VideoError("no such file"))
    with pytest.raises(KeyboardInterrupt):
        results.close()
    return results.save()


@pytest.mark.usefixtures("write_and_interrupt")
def test_a_file_is_written_again(tmp_path: Path) -> None:
    assert saved_twice(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "a.mp4: no such file\n"


@pytest.mark.usefixtures("write_and_interrupt")
def test_a_pipe_gets_the_results_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    with pipe.open("w"):  # keeps the pipe open between two writes
        assert not saved_twice(pipe)
    reader.join(10)
    assert received == ["a.mp4: no such file\n"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_results_come_in_the_order_of_the_movies(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], order: Sequence[int]
) -> None:
    form = Form(lambda prediction: "", lambda video, error: "" if video == "2" else video, "[", ", ", "]")
    for output in (None, str(tmp_path / "file")):
        results = Results(form, output)
        for number in order:
            results.fail(number, str(number), VideoError("broken"))
        results.close()
    assert capsysbinary.readouterr().out == b"[0, 1, 3]"
    assert (tmp_path / "file").read_bytes() == b"[0, 1, 3]"


def test_a_result_is_printed_once_those_before_it_are(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    results = Results(FORM, None)
    printed = []
    for number in (1, 0, 3, 4, 2):
        results.fail(number, str(number), VideoError("broken"))
        printed.append(capsysbinary.readouterr().out.replace(b": broken\n", b""))
    assert printed == [b"", b"01", b"", b"", b"234"]


def test_an_interrupt_prints_results_that_wait_for_others(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_stdout_is_ready", lambda: True)
    results = Results(FORM, None)
    for number in (3, 1):
        results.fail(number, str(number), VideoError("broken"))
    for _ in range(2):
        results.interrupt()
    assert capsysbinary.readouterr().out == b"1: broken\n3: broken\n"
