import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vis4mer.files import atomic_file, check_writable

_WRITE_HALF_AND_WAIT = """
import sys, time
from pathlib import Path
from vis4mer.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"new " * 100_000)
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("existed", [True, False])
def test_a_kill_in_mid_write_leaves_what_was_there(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "file"
    if existed:
        path.write_bytes(b"old")
    with subprocess.Popen([sys.executable, "-c", _WRITE_HALF_AND_WAIT, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert path.exists() == existed
    if existed:
        assert path.read_bytes() == b"old"
    with atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_living_process_keeps_its_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen([sys.executable, "-c", _WRITE_HALF_AND_WAIT, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        with atomic_file(path) as file:
            file.write(b"new")
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(writer.pid, signal.SIGKILL)
    assert path.read_bytes() == b"new"


def test_a_zombie_process_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen([sys.executable, "-c", _WRITE_HALF_AND_WAIT, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.stdout.read() == b""
        while "(zombie)" not in Path("/proc", str(writer.pid), "status").read_text():
            pass
        with atomic_file(path) as file:
            file.write(b"new")
        assert list(tmp_path.iterdir()) == [path]


def test_a_check_that_was_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from vis4mer.files import check_writable
Path.unlink = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
check_writable(sys.argv[1])
"""
    path = tmp_path / "file"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    check_writable(path)
    assert list(tmp_path.iterdir()) == []
