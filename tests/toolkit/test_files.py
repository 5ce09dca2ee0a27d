import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vis4mer.errors import OutputError, VideoError
from vis4mer.files import atomic_file, check_writable, own_descriptor, write_atomically

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


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    umask(mask)
    path = tmp_path / "file"
    with atomic_file(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with atomic_file(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_library_that_writes_a_private_file_by_name_does_not_decide_the_mode(
    tmp_path: Path, umask: Callable[[int], int]
) -> None:
    umask(0o022)
    path = tmp_path / "weights.safetensors"
    with atomic_file(path) as file:
        save_file({"x": np.ones(3)}, file.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert load_file(path)["x"].tolist() == [1, 1, 1]


def test_what_cannot_be_written_is_one_line_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file or directory; choose another place"):
        write_atomically(tmp_path / "nowhere" / "file", b"new")
    with pytest.raises(OutputError, match="cannot be written: it is a folder; choose another place"):
        write_atomically(tmp_path, b"new")
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for number, remedy in ((errno.ENOSPC, "free some space, or choose another place"), (errno.EROFS, "choose another")):

        def fail(_: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("os.fsync", fail)
        for write in (lambda: write_atomically(path, b"new"), lambda: _write(path)):
            with pytest.raises(OutputError, match=f"output='.*file': cannot be written: .*; {remedy}") as caught:
                write()
            assert caught.value.strerror == os.strerror(number)
            assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _write(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"new")


def test_errors_of_the_block_itself_are_unchanged(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such movie"), atomic_file(tmp_path / "file"):
        raise VideoError("no such movie")


def test_descriptors_are_recognised_through_links(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened:
        number = opened.fileno()
        (tmp_path / "one").symlink_to(f"/dev/fd/{number}")
        (tmp_path / "two").symlink_to("one")
        paths = [f"/dev/fd/{number}", f"/proc/self/fd/{number}", f"/proc/{os.getpid()}/fd/{number}"]
        for path in (*paths, tmp_path / "one", tmp_path / "two"):
            assert own_descriptor(path) == number
            write_atomically(path, b"x")
        assert (own_descriptor(file), own_descriptor("/dev/null"), own_descriptor(tmp_path / "new")) == (None,) * 3
    assert file.read_bytes() == b"x" * 5


def test_another_process_descriptor_is_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened, subprocess.Popen(["sleep", "60"], stdout=opened) as process:
        opened.write(b"old ")
        opened.flush()
        write_atomically(f"/proc/{process.pid}/fd/1", b"new")
        process.kill()
    assert file.read_bytes() == b"old new"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="Too many levels of symbolic links"):
        write_atomically(tmp_path / "a", b"new")


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


@pytest.mark.parametrize("name", ["a" * 250, "é" * 125])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    check_writable(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_leftover_that_cannot_be_removed_does_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    leftover = tmp_path / f".file.{socket.gethostname()}.{_ended_process()}.0123abcd"
    leftover.touch()
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self == leftover:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    check_writable(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def _ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_a_living_process_that_proc_hides_keeps_its_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hide(self: Path) -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    prefix = f".file.{socket.gethostname()}"
    kept, removed = (tmp_path / f"{prefix}.{process}.0123abcd" for process in (os.getppid(), _ended_process()))
    kept.touch()
    removed.touch()
    monkeypatch.setattr(Path, "read_text", hide)
    write_atomically(tmp_path / "file", b"new")
    assert kept.exists()
    assert not removed.exists()
