"""Keeps one model loaded in a long-lived HTTP service that classifies the movies it is sent.

    python samples/python/service.py --port 8000
    curl --data-binary @samples/movie.mp4 http://127.0.0.1:8000

The answer is `Prediction.to_dict()` as JSON, whose ``video`` is the upload's temporary file, or ``{"error": ...}`` with
one line that says what was wrong:

- 400: the body ended early
- 411, 413: the request says no length, or one above ``--max-megabytes``
- 422: the body is no movie that can be classified
- 500: the model or its device failed
- 501: the method is not POST
- 503 with ``Retry-After``: ``--queue`` movies are waiting already

One worker classifies one movie after the other, so that load changes neither memory nor speed. A request takes its
place in the queue before its body is read, which bounds the disk space that uploads take. On SIGTERM or SIGINT the
service answers the requests it has and ends.

By default it listens to this machine only. It knows neither users nor TLS, which is the work of a server before it.
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
SILENCE_SECONDS = 30  # after which a client is given up


class Service(ThreadingHTTPServer):
    """Listens, and holds what the requests share.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        classify: turns the path of a movie into its prediction; always called by the same thread.
        queue: number of movies that may wait while one is classified.
        max_bytes: largest movie.
    """

    daemon_threads = False  # or closing would not wait for the requests that are being answered

    def __init__(
        self, address: tuple[str, int], classify: Callable[[str], vis4mer.Prediction], *, queue: int, max_bytes: int
    ) -> None:
        self.classify, self.max_bytes = classify, max_bytes
        self.places = BoundedSemaphore(1 + queue)
        self.worker = ThreadPoolExecutor(max_workers=1)
        super().__init__(address, Handler)  # last, for it closes what it cannot open

    def server_close(self) -> None:
        """Waits for the requests that are being answered, and for the worker."""
        super().server_close()
        self.worker.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Answers one request, in a thread of its own."""

    server: Service
    protocol_version = "HTTP/1.1"  # clients that ask before they send a large body are told to go on
    timeout = SILENCE_SECONDS

    def do_POST(self) -> None:
        """Classifies the movie in the body."""
        with suppress(ConnectionError):  # the client does not want its answer any more
            header = self.headers.get("Content-Length", "")
            if not header.isdecimal():
                return self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length: must be given")
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
        """Answers what is no POST, or no HTTP."""
        with suppress(ConnectionError):
            self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _classify(self, length: int) -> tuple[HTTPStatus, dict[str, Any]]:
        with tempfile.NamedTemporaryFile(prefix="vis4mer-") as movie:
            if not self._receive(length, movie):
                return HTTPStatus.BAD_REQUEST, {"error": f"Content-Length={length}: the body ended before"}
            movie.flush()
            try:
                prediction = self.server.worker.submit(self.server.classify, movie.name).result()
            except VideoError as error:
                return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}
            except Vis4merError as error:
                return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}
            except Exception:  # a defect, which must not take the service down
                logging.exception("classifying %s failed", movie.name)
                return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"}
            return HTTPStatus.OK, prediction.to_dict()

    def _receive(self, length: int, file: IO[bytes]) -> bool:
        """Copies the body to a file; False if it is shorter than its length."""
        while length and (chunk := self.rfile.read(min(length, CHUNK_BYTES))):
            file.write(chunk)
            length -= len(chunk)
        return length == 0

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, {"error": reason})
        # Closing with the body unread would reset the connection, and could take the answer with it.
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
        description="Classifies the movies it is sent over HTTP.",
        epilog="curl --data-binary @samples/movie.mp4 http://127.0.0.1:8000",
    )
    parser.add_argument("bundle", nargs="?", help="bundle or checkpoint; the sample model where not given")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_count(0, 65535), default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--queue", type=_count(0, 10**6), default=8, help="movies that may wait (default: %(default)s)")
    parser.add_argument(
        "--max-megabytes", type=_count(1, 10**6), default=4096, help="largest movie (default: %(default)s)"
    )
    args = parser.parse_args()
    classifier = vis4mer.load(args.bundle, device=args.device)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address, max_bytes = (args.host, args.port), args.max_megabytes * 10**6
    try:
        service = Service(address, classifier, queue=args.queue, max_bytes=max_bytes)
    except OSError as error:
        sys.exit(f"error: {args.host}:{args.port}: cannot listen there ({error.strerror}); give another --port")
    with service, suppress(KeyboardInterrupt):
        print("listening on http://{}:{}".format(*service.server_address), flush=True)
        service.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except Vis4merError as error:
        sys.exit(f"error: {error}")
