"""Tars built header by header, and what a walk finds in them."""

from __future__ import annotations

import json
import struct
from typing import Any

from _newsclippings.storage.local import LocalFile
from _newsclippings.tar import index as tar_index


class Walked:
    """What a walk found."""

    def __init__(self, path: str) -> None:
        with LocalFile(path) as file:
            self.members = tar_index.index_tar(file)
        damage = self.members.schema.metadata.get(b"damage")
        self.damage = damage.decode() if damage else None
        self.others: dict[str, Any] = json.loads(self.members.schema.metadata.get(b"others", b"{}"))


walk = Walked


def header(
    name: bytes, size: bytes = b"%011o\0" % 3, kind: bytes = b"0", magic: bytes = b"ustar\x0000", **more: bytes
) -> bytes:
    raw = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + size + b"0" * 11 + b"\0" + b" " * 8 + kind)
    raw += b"\0" * 100 + magic.ljust(8, b"\0")
    raw = raw.ljust(512, b"\0")
    if prefix := more.get("prefix"):
        raw[345 : 345 + len(prefix)] = prefix
    total = sum(struct.unpack("512b", raw)) if "signed" in more else sum(raw)
    raw[148:156] = b"%06o\0 " % total
    return bytes(raw)


BODY = b"abc".ljust(512, b"\0")
END = bytes(1024)
