"""An HTTP service that keeps one model loaded and classifies uploaded movies.

    python samples/python/service.py --port 8000
    curl --data-binary @samples/movie.mp4 http://127.0.0.1:8000/movie.mp4

The response is `Prediction.to_dict()` as JSON, or ``{"error": ...}`` with the reason in one line:

- 400: The body ended early.
- 408: The body took longer than `UPLOAD_SECONDS`.
- 411, 413: The request has no length, or one above ``--max-megabytes``.
- 422: The body is not a movie that can be classified.
- 500: The model or its device failed; the reason is in the service's log.
- 501: The method is not POST.
- 503 with ``Retry-After``: ``--queue`` movies are already waiting.
- 507: The disk of the temporary folder is full.

A client sees no path of this machine: ``video`` is the last part of the URL's path, or ``upload``, and ``bundle`` is
the name of the model's folder.

One worker classifies one movie at a time, so memory and speed do not depend on the load. A request takes its place in
the queue before its body is read, which bounds the disk space of uploads. An upload is a file without a name, whose
space the system frees however the service ends. On SIGTERM or SIGINT, the service answers the requests that it has
accepted, and exits.

By default it accepts connections from this machine only. It has no authentication and no TLS: put it behind a
server that provides them and limits the number of connections.
"""

import argparse
import json
import logging
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import vis4mer
from vis4mer.errors import VideoError, Vis4merError

CHUNK_BYTES = 1 << 20
RETRY_AFTER_SECONDS = 5
SILENCE_SECONDS = 30  # without data from a client, after which its connection is closed
UPLOAD_SECONDS = 600  # a client that sends a byte now and then would keep its place in the queue for ever
NAME_CHARACTERS = 255  # of a movie's name in the response
LENGTH_DIGITS = 20  # of a Content-Length; Python refuses to convert thousands of them


class Service(ThreadingHTTPServer):
    """The server, with the state that its requests share.

    Args:
        address: Host and port to listen on; port 0 selects a free one.
        classify: Function that returns the prediction of a movie file; always called by the same thread.
        queue: Number of movies that may wait while one is classified.
        max_bytes: Size of the largest movie.
    """

    daemon_threads = False  # so that closing waits for the requests that are being answered

    def __init__(
        self, address: tuple[str, int], classify: Callable[[str], vis4mer.Prediction], *, queue: int, max_bytes: int
    ) -> None:
        self.classify, self.max_bytes = classify, max_bytes
        self.places = BoundedSemaphore(1 + queue)
        self.worker = ThreadPoolExecutor(max_workers=1)
        super().__init__(address, Handler)  # last, because a failure calls server_close

    def server_close(self) -> None:
        """Closes after the requests that are being answered, and stops the worker."""
        super().server_close()
        self.worker.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Handler of one request, in a thread of its own."""

    server: Service
    server_version, sys_version = "vis4mer", ""  # without the version of Python
    protocol_version = "HTTP/1.1"  # supports clients that send "Expect: 100-continue" before a large body
    timeout = SILENCE_SECONDS

    def do_POST(self) -> None:
        """Classifies the movie in the body."""
        with suppress(ConnectionError):  # the client has closed the connection
            header = self.headers.get("Content-Length", "")
            if not (header.isdecimal() and len(header) <= LENGTH_DIGITS):
                return self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length: is required, as a number of bytes")
            length = int(header)
            if length > self.server.max_bytes:
                rule = f"must be at most {self.server.max_bytes} bytes"
                return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Content-Length={length}: {rule}")
            if not self.server.places.acquire(blocking=False):
                return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the queue is full; try again later")
            try:
                try:
                    status, result = self._classify(length)
                finally:
                    self.server.places.release()
            except _UploadError as error:
                return self._refuse(error.status, str(error))
            return self._answer(status, result)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Responds to other methods and to malformed requests."""
        with suppress(ConnectionError):
            self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _classify(self, length: int) -> tuple[HTTPStatus, dict[str, Any]]:
        """Receives and classifies a movie; returns the status and the body of the response.

        Raises:
            _UploadError: The movie cannot be received.
        """
        with tempfile.TemporaryFile() as movie:
            self._receive(length, movie)
            return self._predict(f"/proc/self/fd/{movie.fileno()}")

    def _predict(self, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
        name = self._movie_name()
        try:
            prediction = self.server.worker.submit(self.server.classify, path).result()
        except VideoError as error:
            return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error).replace(repr(path), repr(name))}
        except Exception as error:  # a bug in handling one request must not stop the service
            if isinstance(error, Vis4merError):
                logging.error("classifying %r failed: %s", name, error)
            else:
                logging.exception("classifying %r failed", name)
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"}
        result = prediction.to_dict()
        return HTTPStatus.OK, {**result, "video": name, "bundle": Path(result["bundle"]).name}

    def _movie_name(self) -> str:
        """Returns the last part of the URL's path, or ``upload`` if it is empty."""
        return unquote(urlsplit(self.path).path).rpartition("/")[2][:NAME_CHARACTERS] or "upload"

    def _receive(self, length: int, file: IO[bytes]) -> None:
        """Copies the body to a file.

        Raises:
            _UploadError: The body ends early or takes too long, or the disk is full.
        """
        left, deadline = length, time.monotonic() + UPLOAD_SECONDS
        while left:
            # Unlike read(), read1() returns what one packet brought, so the deadline also holds for slow clients.
            chunk = self.rfile.read1(min(left, CHUNK_BYTES))
            if not chunk:
                raise _UploadError(HTTPStatus.BAD_REQUEST, f"Content-Length={length}: the body ended early")
            if time.monotonic() > deadline:
                raise _UploadError(HTTPStatus.REQUEST_TIMEOUT, f"the body took longer than {UPLOAD_SECONDS} s")
            left -= len(chunk)
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                logging.error("an upload cannot be stored: %s", error)
                raise _UploadError(HTTPStatus.INSUFFICIENT_STORAGE, "the upload cannot be stored") from None

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, {"error": reason})
        # Closing with the body unread would reset the connection, and the client might lose the response.
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:  # ENOTCONN, which is no ConnectionError: the client has closed the connection
            return
        deadline = time.monotonic() + SILENCE_SECONDS
        while time.monotonic() < deadline and self.rfile.read1(CHUNK_BYTES):
            pass

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _UploadError(Exception):
    """A body that cannot be received, with the status of the response."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _count(low: int, high: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r}: must be a number from {low} to {high}")
        return int(text)

    return count


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        description="Classifies movies that are uploaded over HTTP.",
        epilog="curl --data-binary @samples/movie.mp4 http://127.0.0.1:8000/movie.mp4",
    )
    parser.add_argument("bundle", nargs="?", help="bundle or checkpoint (default: the sample model)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_count(0, 65535), default=8000, help="port; 0 selects a free one (default: %(default)s)"
    )
    parser.add_argument("--queue", type=_count(0, 10**6), default=8, help="movies that may wait (default: %(default)s)")
    parser.add_argument(
        "--max-megabytes", type=_count(1, 10**6), default=4096, help="size of the largest movie (default: %(default)s)"
    )
    args = parser.parse_args()
    classifier = vis4mer.load(args.bundle, device=args.device)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address, max_bytes = (args.host, args.port), args.max_megabytes * 10**6
    try:
        service = Service(address, classifier, queue=args.queue, max_bytes=max_bytes)
    except OSError as error:
        sys.exit(f"error: {args.host}:{args.port}: cannot listen there ({error.strerror}); use another --port")
    with service, suppress(KeyboardInterrupt):
        print("listening on http://{}:{}".format(*service.server_address), flush=True)
        service.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except Vis4merError as error:
        sys.exit(f"error: {error}")
