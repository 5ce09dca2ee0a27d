import os
from pathlib import Path

import pytest

from vis4mer.user_cache import read_cached, write_cached


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_written_is_read(cache: Path) -> None:
    assert read_cached("kernels") == b""
    write_cached("kernels", b"first")
    write_cached("kernels", b"second")
    assert read_cached("kernels") == b"second"
    assert [path.name for path in (cache / "vis4mer").iterdir()] == ["kernels"]


def test_only_the_user_may_put_files_there(cache: Path) -> None:
    write_cached("kernels", b"code")
    assert (cache / "vis4mer").stat().st_mode & 0o777 == 0o700


def test_without_a_folder_of_its_own_the_cache_is_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for stated in (None, "", "relative"):
        if stated is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", stated)
        write_cached("kernels", b"code")
        (tmp_path / ".cache" / "vis4mer" / "kernels").unlink()


def test_a_cache_that_cannot_be_used_is_empty(cache: Path) -> None:
    cache.touch()  # a file where the folder should be
    write_cached("kernels", b"code")
    assert read_cached("kernels") == b""


def test_a_file_that_would_block_is_not_read(cache: Path) -> None:
    (cache / "vis4mer").mkdir(parents=True)
    os.mkfifo(cache / "vis4mer" / "kernels")
    assert read_cached("kernels") == b""


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    write_cached("kernels", b"code")
    assert read_cached("kernels") == b""
