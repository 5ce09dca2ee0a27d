"""Names, files and scripts that would make a careless reader open something else, or wait for ever."""

import os
import socket
import tempfile
from pathlib import Path

import pytest


def test_things_that_are_not_regular_files(tmp_path, video_tools):
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    for path in (fifo, "/dev/zero", "/dev/null", tmp_path / "socket"):
        assert "pass a regular movie file" in video_tools.outcome(path)
    server.close()
    assert "is a folder; pass the movie files in it" in video_tools.outcome(tmp_path)


def test_an_empty_file(tmp_path, video_tools):
    (tmp_path / "empty.mp4").touch()
    assert "is empty; pass a complete movie file" in video_tools.outcome(tmp_path / "empty.mp4")


def test_missing_files(tmp_path, video_tools):
    assert "no such file" in video_tools.outcome(tmp_path / "missing.mp4")
    assert isinstance(video_tools.outcome(tmp_path / ("x" * 300)), str)
    assert isinstance(video_tools.outcome("nul\0byte.mp4"), str)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert isinstance(video_tools.outcome(loop), str)


def test_unreadable_files(plain, video_tools):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "secret.mp4"
        path.write_bytes(plain.read_bytes())
        path.chmod(0)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root would read it all the same
        try:
            assert "permission denied" in video_tools.outcome(path)
        finally:
            os.seteuid(user)


NAMES = [
    "two words",
    "Füße 電影 🎬",
    "new\nline",
    "a:b",
    "%03d",
    "frame%d",
    "-",
    "-i",
    "http:",
    "concat:a|b",
    "pipe:",
    "file:x",
]


@pytest.mark.parametrize("name", [*NAMES, "a*b?[c]", "data:,x", "subfile,,start,0,end,9,,:x"])
def test_names_are_only_names(name, plain, tmp_path, monkeypatch, video_tools):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(plain.read_bytes())
    for path in (name, tmp_path / name):
        numbers, _ = video_tools.outcome(path)
        assert numbers == [0, 6, 12, 18, 24, 30, 36, 42]


def test_a_name_that_is_not_unicode(plain, tmp_path, video_tools):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    with open(path, "wb") as file:  # noqa: PTH123 (pathlib would do the same)
        file.write(plain.read_bytes())
    numbers, _ = video_tools.outcome(path)
    assert numbers[:2] == [0, 6]


@pytest.fixture
def listener():
    """A local address that fails the test when anyone connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "file '{target}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{target}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "[Script Info]\n{target}\n",
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
    ],
    ids=["hls", "ffconcat", "concat", "sdp", "dash", "ass", "svg"],
)
def test_scripts_disguised_as_movies_reach_nothing(script, listener, plain, tmp_path, video_tools):
    for target in (plain, f"http://127.0.0.1:{listener}/movie.ts"):
        path = tmp_path / "movie.mp4"
        path.write_text(script.format(target=target, port=listener))
        assert "not a movie" in video_tools.outcome(path)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("http://127.0.0.1:{port}/movie.mp4", "URLs are not opened; download it first"),
        ("tcp://127.0.0.1:{port}", "URLs are not opened; download it first"),
        ("concat:{plain}|{plain}", "no such file"),
        ("pipe:0", "no such file"),
    ],
)
def test_addresses_are_missing_files(name, rule, listener, plain, video_tools):
    assert rule in video_tools.outcome(name.format(port=listener, plain=plain))


def test_a_file_may_be_named_like_a_url(plain, tmp_path, video_tools):
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "movie.mp4").write_bytes(plain.read_bytes())
    assert not isinstance(video_tools.outcome(f"{tmp_path}/http://movie.mp4"), str)


def test_a_movie_that_refers_to_another_file(plain, tmp_path, video_tools):
    """A QuickTime file may refer to data in another file (dref 'alis'), which is never opened."""
    data = plain.read_bytes()
    start = data.index(b"url \0\0\0\1") + 4  # flag 1: the data is in this file
    path = tmp_path / "reference.mov"
    path.write_bytes(data[:start] + b"\0\0\0\0" + data[start + 4 :])
    video_tools.outcome(path)
