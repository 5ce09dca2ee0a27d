"""An HTTP service that keeps one model loaded and classifies uploaded movies.

    python samples/python/service.py --port 8000
    curl --data-binary @samples/movie.mp4 http://127.0.0.1:8000

The response is `Prediction.to_dict()` as JSON, whose ``video`` is the upload's temporary file, or ``{"error": ...}``
with the reason in one line:

- 400: The body ended early.
- 411, 413: The request has no length, or one above ``--max-megabytes``.
- 422: The body is not a movie that can be classified.
- 500: The model or its device failed.
- 501: The method is not POST.
- 503 with ``Retry-After``: ``--queue`` movies are already waiting.

One worker classifies one movie at a time, so memory and speed do not depend on the load. A request takes its place in
the queue before its body is read, which bounds the disk space of uploads. On SIGTERM or SIGINT, the service answers the
requests that it has accepted, and exits.

By default it accepts connections from this machine only. It has no authentication and no TLS: put it behind a
server that provides them.
"""

import argparse
import json
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import IO, Any

import vis4mer
from vis4mer.errors import VideoError, Vis4merError

CHUNK_BYTES = 1 << 20
RETRY_AFTER_SECONDS = 5
SILENCE_SECONDS = 30  # without data from a client, after which its connection is closed


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
    protocol_version = "HTTP/1.1"  # supports clients that send "Expect: 100-continue" before a large body
    timeout = SILENCE_SECONDS

    def do_POST(self) -> None:
        """Classifies the movie in the body."""
        with suppress(ConnectionError):  # the client has closed the connection
            header = self.headers.get("Content-Length", "")
            if not header.isdecimal():
                return self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length: is required")
            length = int(header)
            if length > self.server.max_bytes:
                rule = f"must be at most {self.server.max_bytes} bytes"
                return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Content-Length={length}: {rule}")
            if not self.server.places.acquire(blocking=False):
                return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the queue is full; try again later")
            try:
                status, result = self._classify(length)
            finally:
                self.server.places.release()
            return self._answer(status, result)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Responds to other methods and to malformed requests."""
        with suppress(ConnectionError):
            self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _classify(self, length: int) -> tuple[HTTPStatus, dict[str, Any]]:
        with tempfile.NamedTemporaryFile(prefix="vis4mer-") as movie:
            if not self._receive(length, movie):
                return HTTPStatus.BAD_REQUEST, {"error": f"Content-Length={length}: the body ended early"}
            movie.flush()
            try:
                prediction = self.server.worker.submit(self.server.classify, movie.name).result()
            except VideoError as error:
                return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}
            except Vis4merError as error:
                return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}
            except Exception:  # a bug in handling one request must not stop the service
                logging.exception("classifying %s failed", movie.name)
                return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"}
            return HTTPStatus.OK, prediction.to_dict()

    def _receive(self, length: int, file: IO[bytes]) -> bool:
        """Copies the body to a file, and returns whether it has its full length."""
        while length and (chunk := self.rfile.read(min(length, CHUNK_BYTES))):
            file.write(chunk)
            length -= len(chunk)
        return length == 0

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, {"error": reason})
        # Closing with the body unread would reset the connection, and the client might lose the response.
        self.connection.shutdown(socket.SHUT_WR)
        while self.rfile.read(CHUNK_BYTES):
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
        epilog="curl --data-binary @samples/movie.mp4 http://127.0.0.1:8000",
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
