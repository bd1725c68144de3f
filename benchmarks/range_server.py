"""Serve ranges of one file on the loopback interface, with a delay, and count requests and bytes.

    python -m benchmarks.range_server FILE --delay 0.02

The server prints its port. `/counted` returns bytes and requests since `/reset`; these two are not delayed or counted.
"""

import argparse
import json
import os
import re
import threading
import time
import urllib.request
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BLOCK = 1 << 16


class RangeServer(ThreadingHTTPServer):
    """Serves one file to any number of clients."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, file: Path, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.file, self.delay = file, delay
        self.sent, self.requests = 0, 0
        self.lock = threading.Lock()

    def count(self, sent: int, requests: int = 0) -> None:
        """Add to the counts of bytes and requests."""
        with self.lock:
            self.sent += sent
            self.requests += requests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RangeServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        if self.path == "/counted":
            self._send_json(json.dumps([self.server.sent, self.server.requests]).encode())
        elif self.path == "/reset":
            self.server.count(-self.server.sent, -self.server.requests)
            self._send_json(b"[]")
        else:
            self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _send_json(self, data: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: bool) -> None:
        self.server.count(0, requests=1)
        time.sleep(self.server.delay)
        if self.path != f"/{self.server.file.name}":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        status = self.server.file.stat()
        start, stop = self._range(status.st_size)
        if start >= stop:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{status.st_size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        whole = stop - start == status.st_size and "Range" not in self.headers
        self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Type", "application/x-tar")
        self.send_header("ETag", f'"{status.st_size:x}-{status.st_mtime_ns:x}"')
        self.send_header("Last-Modified", self.date_time_string(status.st_mtime))
        if not whole:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{status.st_size}")
        self.end_headers()
        if body:
            self._send(start, stop)

    def _range(self, size: int) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not match or match[0] == "bytes=-":
            return 0, size
        if not match[1]:
            return max(0, size - int(match[2])), size
        return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size

    def _send(self, start: int, stop: int) -> None:
        try:
            with open(self.server.file, "rb", buffering=0) as file:
                while start < stop:
                    size = min(BLOCK, stop - start)
                    self.server.count(size)  # before it is sent, since the client may ask for the count at once
                    sent = os.sendfile(self.connection.fileno(), file.fileno(), start, size)
                    self.server.count(sent - size)
                    if not sent:
                        break
                    start += sent
        except (BrokenPipeError, ConnectionResetError):  # the client closed the connection
            self.close_connection = True


def _ask(url: str, path: str) -> list[int]:
    with urllib.request.urlopen(url.rpartition("/")[0] + path) as answer:
        values: list[int] = json.load(answer)
        return values


def counted(url: str) -> tuple[int, int]:
    """Return the bytes sent and the requests answered by the server of a URL since it was reset."""
    sent, requests = _ask(url, "/counted")
    return sent, requests


def reset(url: str) -> None:
    """Reset the counts of the server of a URL."""
    _ask(url, "/reset")


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.range_server")
    parser.add_argument("file", type=Path)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds before each answer")
    given = parser.parse_args()
    server = RangeServer(given.file, given.delay)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
