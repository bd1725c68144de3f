"""A file server on the loopback that answers byte ranges, keeps a log, and misbehaves when told to.

    python range_server.py ROOT

serves the files below ROOT and prints its address (`remote.serving` does that, and has the log and the modes).

GET /_log gives the requests so far as [method, path, range, bytes sent, status, first byte sent]; DELETE /_log
forgets them.
POST /_mode sets the faults and clears those that were set before (`{}`: none):

    {"drop": 3}              close the connection in mid-body, for the next 3 GETs
    {"stall": 1}             send half of the body, then nothing until the client goes away or 5 s have passed
    {"short": 2}             answer with a shorter range than asked for, which a server may do
    {"shift": 2}             claim to send the requested range, and send the bytes 512 further on
    {"status": [503, 2]}     answer with a status of failure, for the next 2 requests
    {"hang_up": 2}           close the connection instead of answering, for the next 2 requests
    {"whole": true}          ignore Range: 200 and the whole file
    {"delay": 0.02}          wait before each answer
    {"redirect": true}       send the client elsewhere, as the Hub and other stores do
    {"no_head": true}        refuse HEAD, as presigned addresses do
    {"no_etag": true}        no ETag and no Last-Modified
    {"refuse": 2}            416 for the next 2 GETs: no such range
    {"larger": 4096}         claim that the file is larger than it is, by so many bytes
    {"another": 2}           answer with a range of the same length at the start of the file, and say so
    {"more": 2}              send more bytes than the range has, and say so
    {"other": "b.tar"}       send the client to another file
    {"other_later": ["b.tar", 3]}  the same, after 3 more GETs
    {"etags": true}          another ETag with each answer
    {"after": 5}             the counted faults begin after 5 more requests
"""

from __future__ import annotations

import hashlib
import json
import re
import select
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

CHUNK = 64 * 1024
STALLED = 5  # seconds after which a stalled connection is closed

ROOT = Path()
LOG: list[list[Any]] = []
MODE: dict[str, Any] = {}
LOCK = threading.Lock()


def due(fault: str) -> bool:
    """Whether a counted fault applies to this request; if so, count it."""
    with LOCK:
        left = MODE.get(fault, 0)
        if not left or MODE.get("after", 0) > 0:
            return False
        MODE[fault] = left - 1
        return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if (path := unquote(urlsplit(self.path).path)).startswith("/_"):
            self.control(path, body)
            return
        self.entry: list[Any] = [self.command, path, self.headers.get("Range"), 0, 0, 0]
        with LOCK:
            LOG.append(self.entry)  # before the answer, so that a client that has its answer finds it in the log
        try:
            self.answer(path)
        except OSError:  # the client closed the connection
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_DELETE = handle_any

    def control(self, path: str, body: bytes) -> None:
        with LOCK:
            if self.command == "POST":
                MODE.clear()
                MODE.update(json.loads(body))
            elif self.command == "DELETE":
                LOG.clear()
            text = json.dumps(LOG if path == "/_log" else MODE).encode()
        self.head(200, {"Content-Length": len(text)})
        self.wfile.write(text)

    def head(self, code: int, headers: dict[str, Any]) -> None:
        if not self.path.startswith("/_"):
            self.entry[4] = code
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def fail(self, code: int, **headers: Any) -> None:
        text = f"<html><body>{code}</body></html>".encode()
        self.head(code, {"Content-Type": "text/html", "Content-Length": len(text), **headers})
        if self.command != "HEAD":
            self.wfile.write(text)

    def answer(self, path: str) -> None:
        failure = None
        time.sleep(MODE.get("delay", 0))
        with LOCK:
            if MODE.get("after", 0) > 0:
                MODE["after"] -= 1
            elif MODE.get("status", [0, 0])[1] > 0:
                failure = MODE["status"][0]
                MODE["status"][1] -= 1
        file = ROOT / path.removeprefix("/").removeprefix("elsewhere/")
        if failure:
            return self.fail(failure)
        if due("hang_up"):
            self.close_connection = True
            return None
        if self.command not in ("GET", "HEAD") or (MODE.get("no_head") and self.command == "HEAD"):
            return self.fail(405)
        if not file.is_file():
            return self.fail(404)
        if (other := self.other()) and path != f"/{other}":
            return self.fail(302, Location=f"/{other}")
        if self.command == "GET" and due("refuse"):
            return self.fail(416, **{"Content-Range": f"bytes */{file.stat().st_size}"})
        if MODE.get("redirect") and not path.startswith("/elsewhere/"):
            return self.fail(302, Location="/elsewhere" + self.path)
        return self.send_file(file)

    def other(self) -> str | None:
        """The file to redirect the client to, if it is not the requested one."""
        with LOCK:
            later = MODE.get("other_later")
            if later and self.command == "GET":
                later[1] -= 1
            found = MODE.get("other") or (later[0] if later and later[1] < 0 else None)
        return None if found is None else str(found)

    def send_file(self, file: Path) -> None:
        status = file.stat()
        size = status.st_size + MODE.get("larger", 0)
        etag = f'"{hashlib.sha1(f"{size} {status.st_mtime_ns} {status.st_ino}".encode()).hexdigest()}"'
        if MODE.get("etags"):
            etag = f'"{time.time_ns()}"'
        headers: dict[str, Any] = {"Content-Type": "application/octet-stream"}
        if not MODE.get("whole"):
            headers["Accept-Ranges"] = "bytes"
        if not MODE.get("no_etag"):
            headers |= {"ETag": etag, "Last-Modified": self.date_time_string(int(status.st_mtime))}
            if (match := self.headers.get("If-Match")) and match not in ("*", etag):
                return self.fail(412)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if MODE.get("whole") or not asked or self.headers.get("If-Range") not in (None, etag):
            self.head(200, {**headers, "Content-Length": size})
            return self.send_body(file, 0, size)
        low = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
        high = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
        if low > high:
            return self.fail(416, **{"Content-Range": f"bytes */{size}"})
        if self.command == "GET" and high > low and due("short"):
            high = (low + high) // 2
        if self.command == "GET" and due("more"):
            high += 300
        if self.command == "GET" and due("another"):
            low, high = 0, high - low
        self.head(206, {**headers, "Content-Length": high + 1 - low, "Content-Range": f"bytes {low}-{high}/{size}"})
        return self.send_body(file, low, high + 1)

    def send_body(self, file: Path, low: int, high: int) -> None:
        if self.command == "HEAD":
            return
        stall, shift = due("stall"), 512 * due("shift")
        self.entry[5] = low
        broken = stall or due("drop")
        with file.open("rb") as stream:
            stream.seek(low + shift)
            end = (low + high) // 2 if broken else high
            while low < end:
                data = stream.read(min(CHUNK, end - low))
                if not data and MODE.get("larger"):
                    self.close_connection = True
                    return
                data = data.ljust(1, b"\0")
                self.entry[3] += len(data)
                self.wfile.write(data)
                low += len(data)
        if broken:
            self.close_connection = True
        if stall:
            select.select([self.connection], [], [], STALLED)  # readable when the client closes


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # from clients that are killed or disconnect


if __name__ == "__main__":
    ROOT = Path(sys.argv[1]).resolve()
    server = Server(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
