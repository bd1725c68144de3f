"""A file server in this process whose answers a test can change, for habits of real servers."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Manners(BaseHTTPRequestHandler):
    """Serves the files below `root` by ranges. Subclasses change `answer` or `send_file`.

    Attributes:
        requests: (method, path, headers) of each request so far.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms for the client's kernel
    root = Path()
    requests: list[tuple[str, str, dict[str, str]]] = []  # noqa: RUF012 # one per server, see `serving_with`

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self) -> None:
        file = self.root / urlsplit(self.path).path.lstrip("/")
        self.send_file(file.read_bytes()) if file.is_file() else self.reply(404)

    def send_file(self, data: bytes, etag: str | None = '"one"') -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if asked is None:
            return self.reply(200, data, ETag=etag)
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if first > last:
            return self.reply(416, Content_Range=f"bytes */{len(data)}")
        place = f"bytes {first}-{last}/{len(data)}"
        return self.reply(206, data[first : last + 1], ETag=etag, Content_Range=place)

    def do_GET(self) -> None:
        self.requests.append((self.command, self.path, dict(self.headers)))
        with suppress(OSError):
            self.answer()

    do_HEAD = do_GET


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        pass


class _Server6(_Server):
    address_family = socket.AF_INET6


@contextmanager
def serving_with(root: Path, kind: type[Manners] = Manners, host: str = "127.0.0.1") -> Iterator[tuple[str, Any]]:
    """Serve a folder while the block runs; yields the address, and the list of requests."""
    log: list[Any] = []
    handler = type("Handler", (kind,), {"root": root, "requests": log})
    server = (_Server6 if ":" in host else _Server)((host, 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}", log
    finally:
        server.shutdown()
        server.server_close()
