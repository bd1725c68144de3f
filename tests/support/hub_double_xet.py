"""Xet for hub_double.py: clients are sent to a store in a folder (local://...), in which the real hf_xet keeps chunks.

The files that a commit names are read back with hf_xet, and their SHA-256 is compared before the commit counts.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.hub_requests import API, Hub, Requests
from support.hub_store import Refused

HEADER = 48  # bytes before the first file of a shard, and of each of its records
WITH_CHECKS, WITH_SHA256 = 0x8000_0000, 0x4000_0000  # flags of a file's record


def enable(hub: Hub) -> tuple[str, str, Callable[..., Any]]:
    """Store new files in a Xet store below the root. Returns the route to add."""
    place = hub.root / "xet"
    address = f"local://{place}"

    def token(self: Requests, name: str, kind: str, revision: str) -> Any:
        self.repo(name, write=kind == "write").at(revision)
        place.mkdir(exist_ok=True)
        key, ends = "xet_" + "x" * 20, int(time.time()) + 3600
        told = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": key, "X-Xet-Token-Expiration": str(ends)}
        return {"casUrl": address, "accessToken": key, "exp": ends}, 200, told

    def fetch(wanted: list[tuple[str, int]]) -> None:
        new = [(sha256, size) for sha256, size in wanted if not hub.store.blob(sha256).exists()]
        if not new:
            return
        import hf_xet  # type: ignore[import-untyped,unused-ignore]

        known = hashes(place)  # read from a copy below: only one process may open the store, and a client may have it
        if lost := [sha256 for sha256, _ in new if sha256 not in known]:
            raise Refused(400, "LfsObjectMissing", f"not in the Xet store: {lost}")
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(place, copy, dirs_exist_ok=True)
            with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{copy}") as group:
                for sha256, size in new:
                    group.start_download_file(hf_xet.XetFileInfo(known[sha256], size), f"{copy}/{sha256}")
            for sha256, size in new:
                hub.store.put_lfs(sha256, size, Path(copy, sha256).read_bytes())
                hub.xet_hashes[sha256] = known[sha256]

    hub.fetch_from_xet = fetch
    return "GET", f"{API}/xet-(read|write)-token/([^/]+)", token


def hashes(place: Path) -> dict[str, str]:
    """SHA-256 -> Xet hash of every file in a store, from its shards."""
    found = {}
    for shard in place.rglob("shards/*.mdb"):
        data, at = shard.read_bytes(), HEADER
        while at + HEADER <= len(data) and data[at : at + 32] != b"\xff" * 32:
            xet, flags, segments = struct.unpack_from("<32sII", data, at)
            at += HEADER * (1 + segments * (2 if flags & WITH_CHECKS else 1))
            if flags & WITH_SHA256:
                found[_in_hex(data[at : at + 32])] = _in_hex(xet)
                at += HEADER
    return found


def _in_hex(digest: bytes) -> str:
    """A digest as hf_xet writes it: four numbers of eight bytes."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))
