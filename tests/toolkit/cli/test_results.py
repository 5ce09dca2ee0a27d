"""An interrupt while results are written makes the command write them again."""

import os
import threading
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
    results.fail("a.mp4", VideoError("no such file"))
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
