from pathlib import Path

import pytest

from vis4mer.errors import DataError
from vis4mer.training.data.videos import find_videos, gather_videos, videos_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.MP4", "a.webm", "sub/c.mkv", "sub/c.srt", "notes.txt", "a.json", "d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    return tmp_path


def test_videos_in_a_folder_are_found_by_suffix(folder: Path) -> None:
    assert videos_in(folder) == [folder / "a.webm", folder / "b.MP4", folder / "sub/c.mkv"]


def test_an_identifier_is_a_name_or_a_joined_path(folder: Path) -> None:
    names = {"a", "c", "sub-c", "d", "b.MP4"}
    assert find_videos(folder, names) == {
        name: folder / file for name, file in (("a", "a.webm"), ("c", "sub/c.mkv"), ("sub-c", "sub/c.mkv"))
    }


def test_files_folders_and_lists_are_expanded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("d\n\n  sub/c.mkv \n/gone.mp4\n")
    (folder / "sub" / "list.csv").write_text("label,path\nx,../b.MP4\ny,c.mkv\n,\n")
    monkeypatch.chdir(folder)
    sources = [Path("list.txt"), Path("sub"), Path("sub/list.csv"), folder / "d"]
    assert gather_videos(sources) == [Path("d"), Path("sub/c.mkv"), Path("/gone.mp4"), Path("sub/../b.MP4")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"file,label\na,x\n", "must name a column 'path'"),
        ("list.csv", b"", "is empty; its first row must name the columns; pass a .csv file"),
        ("list.csv", b"label,path\nx,a\ny,\n", "list.csv', line 3: without a path: 'y,'"),
        ("list.txt", b"\xff\xfea\0", "is encoded in UTF-16, not in UTF-8"),
        ("list.txt", b"a\nb\xe9.mp4", "list.txt', line 2: byte 0xe9 is not UTF-8; .* it means 'é'; save it in UTF-8"),
        ("list.txt", b"\n \n", "no video file there"),
        ("gone.txt", None, "no such file"),
    ],
)
def test_a_malformed_list_is_an_error(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        gather_videos([tmp_path / name])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^videos='[^\[]*': no video file there"):
        gather_videos([tmp_path])
