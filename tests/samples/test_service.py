"""The HTTP service: responses, errors and shutdown."""

import contextlib
import errno
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vis4mer
from vis4mer.errors import DeviceError

MAX_BYTES = 1 << 24


@pytest.fixture(scope="module")
def module(samples: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("service", samples / "python" / "service.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def classifier(samples: Path) -> vis4mer.Classifier:
    return vis4mer.load(samples / "bundle", device="cpu")


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns the folder of uploads, and checks that none is left."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@contextlib.contextmanager
def serving(module: ModuleType, classify: Callable[[str], Any], *, queue: int = 0) -> Iterator[Any]:
    with module.Service(("127.0.0.1", 0), classify, queue=queue, max_bytes=MAX_BYTES) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


def post(address: tuple[str, int], body: bytes, path: str = "/") -> tuple[HTTPResponse, dict[str, Any]]:
    with contextlib.closing(HTTPConnection(*address, timeout=60)) as connection:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response, json.load(response)


def run(samples: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, samples / "python" / "service.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


class Gate:
    """A classifier that blocks until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.bodies: list[bytes] = []
        self.threads: set[int] = set()

    def __call__(self, path: str) -> "Gate":
        self.bodies.append(Path(path).read_bytes())
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.open.wait(60)
        return self

    def to_dict(self) -> dict[str, Any]:
        return {"classified": len(self.bodies), "video": "path", "bundle": "path"}


def test_the_response_is_the_prediction(module: ModuleType, classifier: vis4mer.Classifier, samples: Path) -> None:
    with serving(module, classifier) as service:
        response, result = post(service.server_address, (samples / "movie.mp4").read_bytes())
    expected = classifier(samples / "movie.mp4").to_dict()
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert result["heads"] == json.loads(json.dumps(expected["heads"]))
    assert result.keys() == expected.keys()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/", "upload"),
        ("/movies/holiday%20in%20%C3%84gypten.mp4?size=3", "holiday in Ägypten.mp4"),
        ("/..%2F..%2Fetc/x%27%0A", "x'\n"),
    ],
)
def test_responses_hold_the_clients_name_of_the_movie_and_no_path(
    module: ModuleType, classifier: vis4mer.Classifier, samples: Path, uploads: Path, url: str, name: str
) -> None:
    paths = [str(samples), str(uploads), "/proc/", "fd/"]
    with serving(module, classifier) as service:
        _, result = post(service.server_address, (samples / "movie.mp4").read_bytes(), url)
        assert (result["video"], result["bundle"]) == (name, "bundle")
        assert not [path for path in paths if path in json.dumps(result)]
        response, result = post(service.server_address, b"no movie", url)
        assert result["error"].startswith(f"video={name!r}: is not a movie")
        assert not [path for path in paths if path in json.dumps(result)]
        assert response.headers["Server"].strip() == "vis4mer"


def test_an_upload_has_no_name_and_so_leaves_nothing_behind(samples: Path, uploads: Path) -> None:
    command = [sys.executable, samples / "python" / "service.py", "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(uploads)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            host, port = process.stdout.readline().strip().removeprefix("listening on http://").split(":")
            with socket.create_connection((host, int(port)), 60) as client:
                client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 200\r\n\r\n" + b"x" * 100)
                descriptors = Path(f"/proc/{process.pid}/fd")
                deadline = time.monotonic() + 60
                while not any(str(uploads) in str(link.readlink()) for link in descriptors.iterdir()):
                    assert time.monotonic() < deadline, "the upload does not begin"
                    time.sleep(0.01)
                process.kill()
                process.wait(timeout=60)
        finally:
            process.kill()


def test_a_slow_upload_ends_after_the_limit(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPLOAD_SECONDS", 0.2)
    with serving(module, pytest.fail) as service, socket.create_connection(service.server_address, 60) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n")
        client.settimeout(0.05)
        answer = b""
        for _ in range(1000):
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = client.recv(1 << 16)
                break
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_full_disk_is_an_error_in_one_line(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", FullDisk)
    with serving(module, pytest.fail) as service:
        for _ in range(2):  # a failed upload frees its place in the queue
            response, result = post(service.server_address, b"movie")
            assert (response.status, result) == (507, {"error": "the upload cannot be stored"})


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "0x10", "\u00b2"])
def test_a_length_that_is_no_number_is_an_error(module: ModuleType, length: str) -> None:
    with serving(module, pytest.fail) as service, socket.create_connection(service.server_address, 60) as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n".encode("latin1"))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize("body", [b"", b"no movie" * 10_000])
def test_a_body_that_is_not_a_movie_is_an_error_in_one_line(
    module: ModuleType, classifier: vis4mer.Classifier, body: bytes
) -> None:
    with serving(module, classifier) as service:
        for _ in range(2):  # a failed movie frees its place in the queue
            response, result = post(service.server_address, body)
            assert response.status == 422
            assert result["error"].startswith("video='upload': ")
            assert len(result["error"].splitlines()) == 1


@pytest.mark.parametrize("error", [DeviceError("/opt/model: out of memory"), KeyError("/opt/model")])
def test_a_failure_of_the_model_is_a_server_error_whose_reason_is_logged(
    module: ModuleType, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: str) -> None:
        raise error

    with serving(module, fail) as service:
        for _ in range(2):
            response, result = post(service.server_address, b"movie")
            assert response.status == 500
            assert result == {"error": "internal error"}
    assert "/opt/model" in caplog.text


def test_a_body_beyond_the_limit_or_without_length_is_an_error(module: ModuleType) -> None:
    def never(path: str) -> None:
        pytest.fail("must not be classified")

    with serving(module, never) as service:
        response, result = post(service.server_address, bytes(MAX_BYTES + 1))
        assert response.status == 413
        assert f"at most {MAX_BYTES} bytes" in result["error"]
        with contextlib.closing(HTTPConnection(*service.server_address, timeout=60)) as connection:
            connection.request("POST", "/", iter([b"movie"]), encode_chunked=True)
            assert connection.getresponse().status == 411


def test_a_body_that_ends_early_is_not_classified(module: ModuleType) -> None:
    def never(path: str) -> None:
        pytest.fail("must not be classified")

    with serving(module, never) as service, socket.create_connection(service.server_address, timeout=60) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\nhalf")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


def test_a_full_queue_is_an_immediate_error_and_accepted_requests_are_answered(module: ModuleType) -> None:
    gate = Gate()
    with serving(module, gate, queue=1) as service, ThreadPoolExecutor() as clients:
        first = clients.submit(post, service.server_address, b"first")
        assert gate.entered.acquire(timeout=60)
        # Two requests compete for one place, so exactly one of them fails while the first is being classified.
        others = [clients.submit(post, service.server_address, body) for body in (b"second", b"third")]
        refused, waiting = futures.wait(others, timeout=60, return_when=futures.FIRST_COMPLETED)
        response, result = refused.pop().result()
        assert (response.status, result) == (503, {"error": "the queue is full; try again later"})
        assert response.headers["Retry-After"].isdecimal()
        assert not refused and not first.done()
        gate.open.set()
        assert [first.result()[0].status, waiting.pop().result()[0].status] == [200, 200]
        assert post(service.server_address, b"last")[0].status == 200
    assert gate.bodies in ([b"first", b"second", b"last"], [b"first", b"third", b"last"])
    assert len(gate.threads) == 1


def test_closing_waits_for_pending_responses(module: ModuleType) -> None:
    gate = Gate()
    with serving(module, gate, queue=1) as service, ThreadPoolExecutor() as clients:
        request = clients.submit(post, service.server_address, b"movie")
        assert gate.entered.acquire(timeout=60)
        service.shutdown()
        closing = clients.submit(service.server_close)
        gate.open.set()
        assert request.result()[0].status == 200
        closing.result(timeout=60)
        with pytest.raises(ConnectionRefusedError):
            post(service.server_address, b"too late")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_the_sample_until_it_receives_a_signal(samples: Path, end: signal.Signals) -> None:
    command = [sys.executable, samples / "python" / "service.py", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            host, port = process.stdout.readline().strip().removeprefix("listening on http://").split(":")
            assert host == "127.0.0.1"
            response, result = post((host, int(port)), (samples / "movie.mp4").read_bytes())
            assert response.status == 200
            assert result["heads"]["visitor"]["label"]
            process.send_signal(end)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_methods_are_errors_in_json(module: ModuleType, method: str) -> None:
    with (
        serving(module, pytest.fail) as service,
        contextlib.closing(HTTPConnection(*service.server_address, timeout=60)) as connection,
    ):
        connection.request(method, "/", b"body" if method == "PUT" else None)
        response = connection.getresponse()
        body = response.read()
    assert (response.status, response.headers["Content-Type"]) == (501, "application/json")
    if method == "HEAD":
        assert (body, int(response.headers["Content-Length"]) > 0) == (b"", True)
    else:
        assert json.loads(body) == {"error": f"Unsupported method ({method!r})"}


@pytest.mark.parametrize("request_", [b"HEAD / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])
def test_a_client_that_does_not_wait_for_its_response_is_no_error(
    module: ModuleType, request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(module, Gate()) as service:
        for _ in range(20):
            with socket.create_connection(service.server_address) as connection:
                connection.sendall(request_)
    assert "Traceback" not in capfd.readouterr().err


def test_malformed_requests_are_errors_in_json(module: ModuleType) -> None:
    with serving(module, pytest.fail) as service, socket.create_connection(service.server_address, 60) as client:
        client.sendall(b"no http at all HTTP/1.1\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        status, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 400 ")
    assert "Bad request syntax" in json.loads(body)["error"]


def test_a_port_in_use_is_an_error_in_one_line(samples: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(samples, "--port", str(taken.getsockname()[1]), "--device", "cpu")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "Address already in use" in line


@pytest.mark.parametrize("arguments", [("--port", "99999"), ("--queue", "-2"), ("--max-megabytes", "0")])
def test_wrong_usage_exits_with_2(samples: Path, arguments: tuple[str, str]) -> None:
    done = run(samples, *arguments)
    assert done.returncode == 2
    assert f"argument {arguments[0]}" in done.stderr.splitlines()[-1]


def test_help_shows_a_request(samples: Path) -> None:
    assert run(samples, "--help").stdout.splitlines()[-1].startswith("curl --data-binary @samples/movie.mp4 ")


def test_a_bundle_that_cannot_be_loaded_is_an_error_in_one_line(samples: Path, tmp_path: Path) -> None:
    done = run(samples, tmp_path / "absent", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: bundle=")
