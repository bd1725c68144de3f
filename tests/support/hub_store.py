"""The storage of the stand-in for the Hub: dataset repositories with commits, branches and tags, and file bytes.

It trusts nothing: what a client sends is checked, and refused as the Hub would refuse it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS_SUFFIXES = (".parquet", ".png", ".jpg")
LARGEST_REGULAR = 10 * 2**20  # largest file, in bytes, that is stored in git itself


class Refused(Exception):
    """A request that the Hub would refuse."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more


@dataclass(frozen=True)
class Entry:
    """A file of a commit: SHA-256 and size, its git object id, and whether it is in LFS."""

    sha256: str
    size: int
    blob: str
    lfs: bool

    def shown(self, path: str, xet: str | None) -> dict[str, Any]:
        about: dict[str, Any] = {"type": "file", "oid": self.blob, "size": self.size, "path": path}
        if self.lfs:
            about["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        return {**about, "xetHash": xet} if xet else about


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, Entry]


@dataclass
class Repo:
    id: str
    private: bool
    gated: str | bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        if found not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[found]

    def history(self, revision: str) -> list[Commit]:
        """The commits up to a revision, newest first."""
        found = [self.at(revision)]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def add(self, branch: str, title: str, files: dict[str, Entry]) -> Commit:
        parent = self.branches.get(branch)
        oid = os.urandom(20).hex()  # as good as a digest of the content, and never in a client's cache
        self.commits[oid] = Commit(oid, parent, title, files)
        self.branches[branch] = oid
        return self.commits[oid]

    def described(self) -> dict[str, Any]:
        """The whole state, for a test to inspect."""
        commits = [
            {"oid": c.oid, "title": c.title, "files": {path: entry.sha256 for path, entry in c.files.items()}}
            for c in self.commits.values()
        ]
        facts = {"private": self.private, "gated": self.gated, "branches": self.branches, "tags": self.tags}
        return {**facts, "commits": commits}


class Store:
    """All repositories, and the bytes of their files by SHA-256."""

    def __init__(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self.root, self.lock = root, threading.RLock()
        self.repos: dict[str, Repo] = {}
        self.parts: dict[str, dict[int, bytes]] = {}  # of multipart uploads

    def blob(self, sha256: str) -> Path:
        return self.root / sha256

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        unfinished = self.root / f"{sha256}.{threading.get_ident()}"
        unfinished.write_bytes(data)
        unfinished.rename(self.blob(sha256))
        return sha256

    def put_lfs(self, sha256: str, size: int, data: bytes) -> None:
        found = hashlib.sha256(data).hexdigest()
        if (found, len(data)) != (sha256, size):
            message = f"expected {size} bytes with SHA-256 {sha256}, got {len(data)} with {found}"
            raise Refused(400, "BadDigest", message)
        self.put(data)

    def entry(self, sha256: str, lfs: bool) -> Entry:
        data = self.blob(sha256).read_bytes()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n"
        in_git = pointer.encode() if lfs else data
        return Entry(sha256, len(data), hashlib.sha1(b"blob %d\0" % len(in_git) + in_git).hexdigest(), lfs)

    def create(self, name: str, private: bool, files: dict[str, str], branch: str = "main") -> None:
        """Create a repository, or a branch of one, with some files."""
        repo = self.repos.setdefault(name, Repo(name, private))
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        texts = {".gitattributes": attributes, **files}
        entries = {path: self.entry(self.put(text.encode()), is_lfs(path, 0)) for path, text in texts.items()}
        repo.add(branch, "initial commit", entries)

    def commit(self, repo: Repo, branch: str, lines: Iterable[bytes]) -> Commit:
        """Apply a commit completely, or not at all."""
        header, *changes = (json.loads(line) for line in lines)
        if header["key"] != "header" or not header["value"]["summary"]:
            raise Refused(400, "BadRequest", "expected a header with a summary first")
        if branch not in repo.branches:
            raise Refused(404, "RevisionNotFound", f"no branch {branch}")
        before = repo.at(branch)
        if header["value"].get("parentCommit", before.oid) != before.oid:
            raise Refused(412, "PreconditionFailed", "A commit has happened since. Please refresh and try again.")
        files, touched = dict(before.files), set[str]()
        for change in changes:
            key, value = change["key"], change["value"]
            path = checked(value["path"], touched)
            touched.add(path)
            if key in ("deletedFile", "deletedFolder"):
                gone = {name for name in files if name == path or name.startswith(path.rstrip("/") + "/")}
                if not gone or (key == "deletedFile" and path not in files):
                    raise Refused(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
                files = {name: entry for name, entry in files.items() if name not in gone}
            elif key in ("file", "lfsFile"):
                files[path] = self.sent(path, value, lfs=key == "lfsFile")
            else:
                raise Refused(400, "BadRequest", f"unknown operation {key}")
        folders = {name[:k] for name in files for k, letter in enumerate(name) if letter == "/"}
        if both := folders & files.keys():
            raise Refused(400, "BadRequest", f"both files and folders: {both}")
        return repo.add(branch, header["value"]["summary"], files)

    def sent(self, path: str, value: dict[str, Any], *, lfs: bool) -> Entry:
        """Return the entry of a file that a commit adds."""
        if lfs:
            if value["algo"] != "sha256" or not self.blob(value["oid"]).exists():
                message = f"LFS pointer pointed to a file that does not exist: {path}"
                raise Refused(400, "LfsObjectMissing", message)
            entry = self.entry(value["oid"], lfs=True)
            if value["size"] != entry.size:
                raise Refused(400, "BadRequest", f"{path}: size {value['size']}, but it has {entry.size}")
            return entry
        if value["encoding"] != "base64":
            raise Refused(400, "BadRequest", f"{path}: unknown encoding")
        data = base64.b64decode(value["content"], validate=True)
        if data and is_lfs(path, len(data)):
            raise Refused(400, "BadRequest", f"Your push was rejected because it has binary or large files: {path}")
        return self.entry(self.put(data), lfs=False)


def is_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LARGEST_REGULAR


def checked(path: str, touched: set[str]) -> str:
    """Return a path of a commit; refuse one that is invalid or was already named."""
    parts = path.rstrip("/").split("/")
    if path in touched or any(part in ("", ".", "..", ".git") for part in parts):
        raise Refused(400, "BadRequest", f"bad path {path!r}")
    return path
