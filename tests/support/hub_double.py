"""A stand-in for the Hub on the loopback: repositories of datasets and models, by the Hub's HTTP API.

    python -m support.hub_double ROOT [--xet]

keeps what it is sent below ROOT and prints its address. With --xet the bytes go through a Xet store, see
hub_double_xet.py. Tests control it with these requests:

    POST /_reset    forget everything; {"page": entries a page, "part": bytes above which files are sent in parts}
    GET  /_log      requests so far: method, path, query, range, user, received, sent, status, handled
    GET  /_repo/ID  everything about a repository
    POST /_repo/ID  create one, or a branch of it: {"private", "files": {path: text}, "branch"}
    POST /_faults   what goes wrong from now on: [{"method", "path" (regex), "after", "times", "do"}], "do" being
                    a status; "drop"; "lose": it is carried out, but gets no reply; "hold": it waits for the next
                    /_faults; "stall": the same, then it is dropped; "drip": the reply comes byte by byte
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.hub_requests import API, DATE, ID, SIGNED, Hub, Requests
from support.hub_store import Refused, is_lfs


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # caused by clients that are killed
            super().handle_error(request, client_address)


class Handler(Requests):
    # Accounts and repositories

    def whoami(self) -> Any:
        if self.entry["user"] is None:
            raise Refused(401, "Unauthorized", "Invalid username or password.")
        return ({"type": "user", "name": self.entry["user"], "orgs": [], "auth": {"type": "access_token"}},)

    def no_owner(self) -> Any:
        """A repository without an owner, which older clients ask for before they take the name for one."""
        raise Refused(404, "RepoNotFound", "Repository not found")

    def harnesses(self) -> Any:
        """An answer that the command `hf` asks for and does not use."""
        return ({"standardEnvVars": [], "harnesses": {}},)

    def create(self) -> Any:
        wanted = self.json()
        if wanted["type"] not in ("dataset", "model"):
            raise Refused(400, "BadRequest", "datasets and models only")
        name = f"{wanted.get('organization') or self.entry['user']}/{wanted['name']}"
        self.may_write(name.partition("/")[0])
        url = f"{self.hub.endpoint}/{'datasets/' if wanted['type'] == 'dataset' else ''}{name}"
        if name in self.hub.store.repos:
            raise Refused(409, "Conflict", "You already created this repo", url=url)
        self.hub.store.create(name, wanted.get("private") or wanted.get("visibility") == "private", {})
        return ({"url": url, "name": name, "id": name},)

    def settings(self, name: str) -> Any:
        repo, wanted = self.repo(name, write=True), self.json()
        if not wanted or wanted.keys() - {"private", "visibility", "gated"}:
            raise Refused(400, "BadRequest", f"unknown settings {sorted(wanted)}")
        if "private" in wanted or "visibility" in wanted:
            repo.private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        if wanted.get("gated", False) not in ("auto", "manual", False):
            raise Refused(400, "BadRequest", "gated: auto, manual or false")
        repo.gated = wanted.get("gated", repo.gated)
        return ({"private": repo.private, "gated": repo.gated},)

    def info(self, name: str, revision: str = "") -> Any:
        repo = self.repo(name)
        commit = repo.at(revision or "main")
        flags: dict[str, Any] = {
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
        }
        facts = {"_id": "0" * 24, "id": name, "author": name.partition("/")[0], "sha": commit.oid}
        dates = {"lastModified": DATE, "createdAt": DATE}
        return ({**facts, **dates, **flags, "siblings": [{"rfilename": path} for path in sorted(commit.files)]},)

    def refs(self, name: str) -> Any:
        repo = self.repo(name)
        heads = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in repo.branches.items()]
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, oid in repo.tags.items()]
        requests: dict[str, Any] = {"pullRequests": []} if "include_prs" in self.query else {}
        return ({"branches": heads, "converts": [], "tags": tags, **requests},)

    def branch(self, name: str, branch: str) -> Any:
        repo = self.repo(name, write=True)
        if branch in repo.branches:
            raise Refused(409, "Conflict", "Reference already exists")
        repo.branches[branch] = repo.at(self.json().get("startingPoint", "main")).oid
        return ({},)

    def tag(self, name: str, revision: str) -> Any:
        repo, tag = self.repo(name, write=True), self.json()["tag"]
        if tag in repo.tags:
            raise Refused(409, "Conflict", "Tag reference already exists")
        repo.tags[tag] = repo.at(revision).oid
        return ({},)

    def delete_tag(self, name: str, tag: str) -> Any:
        if self.repo(name, write=True).tags.pop(tag, None) is None:
            raise Refused(404, "RevisionNotFound", f"no tag {tag}")
        return (b"", 204)

    # Writing

    def validate_yaml(self) -> Any:
        content = self.json()["content"]
        good = content.startswith("---\n") and "\n---\n" in content[4:]
        return ({"errors": [] if good else [{"message": "expected YAML between two lines of ---"}], "warnings": []},)

    def preupload(self, name: str, revision: str) -> Any:
        files, there = self.json()["files"], self.repo(name, write=True).at(revision).files
        told = []
        for file in files:
            entry = there.get(file["path"])
            mode = "lfs" if is_lfs(file["path"], file["size"]) else "regular"
            oid = entry and (entry.sha256 if entry.lfs else entry.blob)
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return ({"files": told},)

    def batch(self, name: str) -> Any:
        self.repo(name, write=True)
        wanted, objects = self.json(), []
        if wanted["operation"] != "upload" or wanted["hash_algo"] != "sha256":
            raise Refused(400, "BadRequest", "uploads by SHA-256 only")
        in_parts = self.hub.part if "multipart" in wanted["transfers"] else None
        for one in wanted["objects"]:
            about = {"oid": one["oid"], "size": one["size"]}
            if not self.hub.store.blob(one["oid"]).exists():
                href = f"{self.hub.endpoint}/_lfs/{one['oid']}/{one['size']}"
                header: dict[str, str] = {}
                if in_parts and one["size"] > in_parts:
                    parts = range(1, -(-one["size"] // in_parts) + 1)
                    header = {f"{k:05d}": f"{href}/part/{k}?{SIGNED}" for k in parts} | {"chunk_size": str(in_parts)}
                verify = {"href": f"{self.hub.endpoint}/datasets/{name}.git/info/lfs/objects/verify"}
                about["actions"] = {"upload": {"href": f"{href}?{SIGNED}", "header": header}, "verify": verify}
            objects.append(about)
        return ({"transfer": "multipart" if in_parts else "basic", "objects": objects},)

    def lfs(self, sha256: str, size: str) -> Any:
        self.signed()
        self.hub.store.put_lfs(sha256, int(size), self.body)
        return (b"",)

    def lfs_part(self, sha256: str, size: str, number: str) -> Any:
        self.signed()
        self.hub.store.parts.setdefault(sha256, {})[int(number)] = self.body
        return b"", 200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}

    def lfs_complete(self, sha256: str, size: str) -> Any:
        self.signed()
        parts, told = self.hub.store.parts.pop(sha256), self.json()
        etags = [{"partNumber": k, "etag": f'"{hashlib.md5(parts[k]).hexdigest()}"'} for k in sorted(parts)]
        if told != {"oid": sha256, "parts": etags}:
            raise Refused(400, "BadRequest", f"expected {etags}, got {told}")
        self.hub.store.put_lfs(sha256, int(size), b"".join(parts[k] for k in sorted(parts)))
        return (b"",)

    def verify(self, name: str) -> Any:
        self.repo(name, write=True)
        blob = self.hub.store.blob(self.json()["oid"])
        if not blob.exists() or blob.stat().st_size != self.json()["size"]:
            raise Refused(404, "LfsObjectMissing", "no such object")
        return (b"",)

    def commit(self, name: str, branch: str) -> Any:
        repo = self.repo(name, write=True)
        if self.headers["Content-Type"] != "application/x-ndjson":
            raise Refused(400, "BadRequest", "expected application/x-ndjson")
        lines = self.body.splitlines()
        values = [change["value"] for change in map(json.loads, lines) if change["key"] == "lfsFile"]
        self.hub.fetch_from_xet([(value["oid"], value["size"]) for value in values])
        made = self.hub.store.commit(repo, branch, lines)
        url = f"{self.hub.endpoint}/datasets/{name}/commit/{made.oid}"
        return ({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""},)

    # For tests

    def show_log(self) -> Any:
        return (self.hub.log,)

    def reset(self) -> Any:
        self.hub.reset(**self.json())
        return ({},)

    def set_faults(self) -> Any:
        self.hub.set_faults(json.loads(self.body))
        return ({},)

    def show_repo(self, name: str) -> Any:
        found = self.hub.store.repos.get(name)
        return (found and found.described(),)

    def make_repo(self, name: str) -> Any:
        self.hub.store.create(name, **self.json())
        return ({},)


GIT = rf"(?:/datasets)?/{ID}\.git/info/lfs/objects"
LFS = r"/_lfs/([0-9a-f]{64})/(\d+)"
Handler.routes = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("GET", "/api/agent-harnesses", Handler.harnesses),
    ("GET", "/api/datasets/[^/]+", Handler.no_owner),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("PUT", f"{API}/settings", Handler.settings),
    ("GET", f"{API}(?:/revision/([^/]+))?", Handler.info),
    ("GET", f"{API}/refs", Handler.refs),
    ("POST", f"{API}/branch/([^/]+)", Handler.branch),
    ("POST", f"{API}/tag/([^/]+)", Handler.tag),
    ("DELETE", f"{API}/tag/([^/]+)", Handler.delete_tag),
    ("POST", f"{API}/preupload/([^/]+)", Handler.preupload),
    ("POST", f"{GIT}/batch", Handler.batch),
    ("PUT", LFS, Handler.lfs),
    ("PUT", rf"{LFS}/part/(\d+)", Handler.lfs_part),
    ("POST", LFS, Handler.lfs_complete),
    ("POST", f"{GIT}/verify", Handler.verify),
    ("POST", f"{API}/commit/([^/]+)", Handler.commit),
    ("GET", f"{API}/tree/([^/]+)/?(.*)", Handler.tree),
    ("POST", f"{API}/paths-info/([^/]+)", Handler.paths_info),
    ("GET", f"{API}/commits/([^/]+)", Handler.commits),
    ("GET", f"(?:/datasets)?/{ID}/resolve/([^/]+)/(.+)", Handler.resolve),
    ("GET", r"/_cdn/([0-9a-f]{64})/([^/]+)", Handler.cdn),
    ("GET", "/_log", Handler.show_log),
    ("POST", "/_reset", Handler.reset),
    ("POST", "/_faults", Handler.set_faults),
    ("GET", f"/_repo/{ID}", Handler.show_repo),
    ("POST", f"/_repo/{ID}", Handler.make_repo),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--xet", action="store_true")
    options = parser.parse_args()
    Handler.hub = hub = Hub(options.root)
    if options.xet:
        from support import hub_double_xet

        Handler.routes.append(hub_double_xet.enable(hub))
    server = Server(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    hub.cdn = f"http://localhost:{server.server_address[1]}"
    sys.stdout.write(hub.endpoint + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
