"""A read-only stand-in for the Hub on the loopback: one model repository, the same at every revision.

    python hub_server.py ROOT [TOKEN]

serves the files below ROOT as g-luo/news-clippings and prints its address. With TOKEN, requests need it.
GET /_log gives the requests so far as [method, path, range, authorised]; POST /_serve with {"root": ROOT,
"token": TOKEN} serves other files, and clears the log. POST /_faults with {name: [fault, ...]} sets what the next
answers with the content of a file do: "flip" sends another byte in the middle, "cut" only the first half, "hold" the
same and then nothing until the client goes, "503" an error.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "g-luo/news-clippings"
ROOT = Path(sys.argv[1])
TOKEN = sys.argv[2] if len(sys.argv) > 2 else None
LOG: list[tuple[str, str, str | None, bool]] = []
FAULTS: dict[str, list[str]] = {}


def commit(revision: str) -> str:
    """The commit that a revision names: itself, or a digest of a branch's name."""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else hashlib.sha1(revision.encode()).hexdigest()


def entry(path: Path) -> dict[str, Any]:
    kind, data = ("directory", b"") if path.is_dir() else ("file", path.read_bytes())
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    about = {"type": kind, "oid": oid, "size": len(data), "path": path.relative_to(ROOT).as_posix()}
    if path.suffix == ".pkl":  # large files are kept by Git LFS
        about["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms for the client's kernel
    fault = ""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        allowed = TOKEN is None or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.fault = ""
        found = next(((a, m) for pattern, a in ROUTES if (m := re.fullmatch(pattern, url.path))), None)
        if url.path == "/_log":
            return self.reply(LOG)
        if url.path == "/_serve":
            return self.serve(**json.loads(body))
        if url.path == "/_faults":
            FAULTS.update(json.loads(body))
            return self.reply({})
        LOG.append((self.command, unquote(url.path), self.headers.get("Range"), allowed))
        if not allowed:
            return self.fail(401, "GatedRepo", "Access to this repository is restricted")
        if not found:
            return self.fail(404, "RepoNotFound", f"nothing at {url.path}")
        return found[0](self, *(unquote(group or "") for group in found[1].groups()), body)

    do_GET = do_HEAD = do_POST = handle_any

    def reply(self, value: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        always = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self.send_response(code)
        for name, text in (always | (headers or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.spoil(data))

    def spoil(self, data: bytes) -> bytes:
        """Return the bytes to send, after the fault of this answer."""
        middle = len(data) // 2
        if self.fault == "flip":
            return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if self.fault in ("cut", "hold"):
            self.wfile.write(data[:middle])
            self.wfile.flush()
            if self.fault == "hold":
                self.rfile.read(1)  # until the client closes the connection
            self.close_connection = True
            return b""
        return data

    def fail(self, code: int, name: str, message: str) -> None:
        self.reply({"error": message}, code, {"X-Error-Code": name, "X-Error-Message": message})

    def serve(self, root: str, token: str | None) -> None:
        global ROOT, TOKEN
        ROOT, TOKEN = Path(root), token
        LOG.clear()
        FAULTS.clear()
        self.reply({})

    def info(self, revision: str, body: bytes) -> None:
        names = [{"rfilename": entry(path)["path"]} for path in sorted(ROOT.rglob("*")) if path.is_file()]
        facts = {"_id": "0" * 24, "id": REPOSITORY, "author": "g-luo", "sha": commit(revision or "main")}
        dates = {"lastModified": "2024-09-10T00:00:00.000Z", "createdAt": "2024-09-10T00:00:00.000Z"}
        flags = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
        self.reply({**facts, **dates, **flags, "siblings": names})

    def tree(self, revision: str, path: str, body: bytes) -> None:
        if not (folder := ROOT / path).is_dir():
            return self.fail(404, "EntryNotFound", f"{path} does not exist")
        everything = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() in ("1", "true")
        return self.reply([entry(found) for found in sorted(folder.rglob("*") if everything else folder.iterdir())])

    def paths_info(self, revision: str, body: bytes) -> None:
        paths = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
        self.reply([entry(ROOT / path) for path in paths if (ROOT / path).exists()])

    def resolve(self, revision: str, path: str, body: bytes) -> None:
        if not (ROOT / path).is_file():
            return self.fail(404, "EntryNotFound", "Entry not found")
        if self.command == "GET" and FAULTS.get(path):
            self.fault = FAULTS[path].pop(0)
        if self.fault == "503":
            return self.fail(503, "Busy", "try again")
        data, found = (ROOT / path).read_bytes(), entry(ROOT / path)
        headers = {"X-Repo-Commit": commit(revision), "ETag": f'"{found["oid"]}"', "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not match or not data:
            return self.reply(data, 200, headers)
        end = len(data) - 1
        low = int(match[1]) if match[1] else max(len(data) - int(match[2]), 0)
        high = min(int(match[2]), end) if match[1] and match[2] else end
        if low >= len(data):
            return self.reply(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
        return self.reply(data[low : high + 1], 206, {**headers, "Content-Range": f"bytes {low}-{high}/{len(data)}"})


API = f"/api/models/{REPOSITORY}"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (f"{API}(?:/revision/(.+))?", Handler.info),
    (f"{API}/tree/([^/]+)/?(.*)", Handler.tree),
    (f"{API}/paths-info/(.+)", Handler.paths_info),
    (f"/{REPOSITORY}/resolve/([^/]+)/(.+)", Handler.resolve),
]

if __name__ == "__main__":
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
