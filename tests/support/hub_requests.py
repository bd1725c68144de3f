"""How hub_double.py handles requests and reads its repositories: log, faults, permissions, listings, bytes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from support.hub_store import Commit, Refused, Repo, Store

USERS = {"hf_write_of_tester": "tester", "hf_read_of_tester": "tester", "hf_write_of_other": "other"}
ID = r"([\w.-]+/[\w.-]+)"
API = f"/api/(?:datasets|models)/{ID}"
DATE = "2026-11-01T00:00:00.000Z"
SIGNED = "Signature=only-who-was-told-this"  # signs addresses that need no token, like those of a CDN


class Hub:
    """The state that all requests share."""

    def __init__(self, root: Path) -> None:
        self.root, self.calm = root, threading.Event()  # set when new faults replace those of a stalled request
        self.endpoint = self.cdn = ""  # two names for one server, because clients treat a CDN as another host
        self.fetch_from_xet: Callable[[list[tuple[str, int]]], None] = lambda wanted: None
        self.reset()

    def reset(self, page: int = 1000, part: int | None = None) -> None:
        self.page, self.part = page, part
        self.store = Store(self.root)
        self.log: list[dict[str, Any]] = []
        self.xet_hashes: dict[str, str] = {}  # SHA-256 -> Xet hash of the files in a Xet store
        self.set_faults([])

    def set_faults(self, faults: list[dict[str, Any]]) -> None:
        self.calm.set()
        self.faults, self.calm = faults, threading.Event()


class Requests(BaseHTTPRequestHandler):
    """What all answers of hub_double.py have in common, and the answers that only read."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms for the client's kernel
    hub: Hub
    routes: list[tuple[str, str, Callable[..., Any]]]
    entry: dict[str, Any]
    body = b""
    dripping = False
    query: dict[str, str]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        about = {"method": self.command, "path": unquote(url.path), "query": self.query, "user": USERS.get(token)}
        numbers = {"range": self.headers.get("Range"), "received": 0, "sent": 0, "status": None, "handled": True}
        self.entry = about | numbers
        if not url.path.startswith("/_") or url.path.startswith(("/_lfs", "/_cdn")):
            self.hub.log.append(self.entry)
        fault = self.fault(unquote(url.path))
        if fault in ("hold", "stall"):
            self.hub.calm.wait(120)
        if fault in ("drop", "stall"):
            self.close_connection = True
            return
        self.body = self.received()
        try:
            if isinstance(fault, int):
                raise Refused(fault, "Injected", "injected fault")
            if token and token not in USERS:
                raise Refused(401, "Unauthorized", "Invalid username or password.")
            method = "GET" if self.command == "HEAD" else self.command
            found = [
                (act, match)
                for m, pattern, act in self.routes
                if (match := re.fullmatch(pattern, url.path)) and m == method
            ]
            if not found:
                self.entry["handled"] = False
                raise Refused(404, "RouteNotFound", f"no route {self.command} {url.path}")
            with self.hub.store.lock:
                reply = self.answer(*found[0])
        except Refused as no:
            told = {"X-Error-Code": no.code, "X-Error-Message": no.message}
            reply = {"error": no.message, **no.more}, no.status, told
        if fault == "lose":
            self.close_connection = True
            return
        self.dripping = fault == "drip"
        self.reply(*reply)

    def answer(self, act: Callable[..., Any], match: re.Match[str]) -> Any:
        try:
            return act(self, *(unquote(group or "") for group in match.groups()))
        except Refused:
            raise
        except Exception as error:  # a request that this server does not know
            self.entry["handled"] = False
            raise Refused(400, "BadRequest", repr(error)) from error

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def fault(self, path: str) -> int | str | None:
        for fault in self.hub.faults:
            if fault["method"] == self.command and re.search(fault["path"], path) and fault["times"]:
                if fault.get("after", 0):
                    fault["after"] -= 1
                    continue
                fault["times"] -= 1
                do: int | str = fault["do"]
                return do
        return None

    def received(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        else:
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.entry["received"] = len(data)
        if len(data) < int(self.headers.get("Content-Length") or 0):  # the client closed the connection
            self.close_connection = True
            raise ConnectionResetError
        return data

    def reply(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.entry.update(status=status, sent=len(data) if self.command != "HEAD" else 0)
        self.send_response(status)
        for name, text in (
            {"Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {})
        ).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            for k in range(len(data) if self.dripping else 0):
                self.wfile.write(data[k : k + 1])
                time.sleep(0.2)
            self.wfile.write(b"" if self.dripping else data)

    # Permissions

    def repo(self, name: str, *, write: bool = False) -> Repo:
        user, repo = self.entry["user"], self.hub.store.repos.get(name)
        if write and user is None:
            raise Refused(401, "Unauthorized", "Invalid username or password.")
        if repo is None or (repo.private and user != name.partition("/")[0]):
            raise Refused(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if write:
            self.may_write(name.partition("/")[0])
        return repo

    def may_write(self, owner: str) -> None:
        if self.entry["user"] is None:
            raise Refused(401, "Unauthorized", "Invalid username or password.")
        if self.entry["user"] != owner or "hf_read" in self.headers["Authorization"]:
            raise Refused(403, "Forbidden", f"You don't have the rights to write to the namespace {owner}")

    def signed(self) -> None:
        if urlencode(self.query) != SIGNED or self.headers.get("Authorization"):
            raise Refused(400, "BadRequest", "expected a signed address and no token")

    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise Refused(400, "BadRequest", "expected an object")
        return value

    # Reading

    def paged(self, items: list[Any]) -> Any:
        limit, start = min(int(self.query.get("limit", self.hub.page)), self.hub.page), int(self.query.get("cursor", 0))
        more = urlencode({**self.query, "cursor": start + limit})
        link = {"Link": f'<{self.hub.endpoint}{urlsplit(self.path).path}?{more}>; rel="next"'}
        return items[start : start + limit], 200, link if start + limit < len(items) else {}

    def listed(self, commit: Commit, folder: str) -> list[dict[str, Any]]:
        """All files and folders below a folder."""
        start, found = f"{folder}/" if folder else "", {}
        for path, entry in sorted(commit.files.items()):
            if path.startswith(start):
                for k in (k for k, letter in enumerate(path) if letter == "/" and k > len(start)):
                    oid = hashlib.sha1(path[:k].encode()).hexdigest()
                    found[path[:k]] = {"type": "directory", "oid": oid, "size": 0, "path": path[:k]}
                found[path] = entry.shown(path, self.hub.xet_hashes.get(entry.sha256))
        return list(found.values())

    def tree(self, name: str, revision: str, folder: str) -> Any:
        commit = self.repo(name).at(revision)
        found = self.listed(commit, folder)
        if folder and not found:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        if self.query.get("recursive", "").lower() not in ("1", "true"):
            found = [one for one in found if one["path"].rpartition("/")[0] == folder]
        if self.query.get("expand", "").lower() in ("1", "true"):
            last = {"id": commit.oid, "title": commit.title, "date": DATE}
            found = [{**one, "lastCommit": last} for one in found]
        return self.paged(found)

    def paths_info(self, name: str, revision: str) -> Any:
        commit = self.repo(name).at(revision)
        form = parse_qs(self.body.decode()).get("paths", [])
        paths = self.json()["paths"] if self.body.startswith(b"{") else form
        return ([one for one in self.listed(commit, "") if one["path"] in paths],)

    def commits(self, name: str, revision: str) -> Any:
        history = self.repo(name).history(revision)
        authors = [{"user": name.partition("/")[0]}]
        return self.paged(
            [{"id": c.oid, "title": c.title, "message": "", "date": DATE, "authors": authors} for c in history]
        )

    def resolve(self, name: str, revision: str, path: str) -> Any:
        repo = self.repo(name)
        commit = repo.at(revision)
        if repo.gated and self.entry["user"] != name.partition("/")[0]:
            status = 401 if self.entry["user"] is None else 403
            raise Refused(status, "GatedRepo", f"Access to dataset {name} is restricted")
        entry = commit.files.get(path)
        if entry is None:
            told = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit.oid}
            return {"error": "Entry not found"}, 404, told
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{entry.blob}"', "Accept-Ranges": "bytes"}
        if not entry.lfs:
            return self.bytes_of(entry.sha256, headers)
        linked = {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"'}
        place = {"Location": f"{self.hub.cdn}/_cdn/{entry.sha256}/{path.rpartition('/')[2]}?{SIGNED}"}
        if entry.sha256 in self.hub.xet_hashes:
            token = f"{self.hub.endpoint}/api/datasets/{name}/xet-read-token/{commit.oid}"
            linked |= {"X-Xet-Hash": self.hub.xet_hashes[entry.sha256], "Link": f'<{token}>; rel="xet-auth"'}
        return b"", 302, headers | linked | place

    def cdn(self, sha256: str, file: str) -> Any:
        self.signed()
        return self.bytes_of(sha256, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})

    def bytes_of(self, sha256: str, headers: dict[str, str]) -> Any:
        data, wanted = self.hub.store.blob(sha256).read_bytes(), self.headers.get("Range")
        headers = {"Content-Type": "application/octet-stream", **headers}
        if wanted is None or not data:
            return data, 200, headers
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
        if match is None or match[0] == "bytes=-":
            raise Refused(400, "BadRequest", f"Range: {wanted}")
        low = int(match[1]) if match[1] else max(len(data) - int(match[2]), 0)
        high = min(int(match[2]), len(data) - 1) if match[1] and match[2] else len(data) - 1
        if low >= len(data):
            return b"", 416, {"Content-Range": f"bytes */{len(data)}"}
        return data[low : high + 1], 206, headers | {"Content-Range": f"bytes {low}-{high}/{len(data)}"}
