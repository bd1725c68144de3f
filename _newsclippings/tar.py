"""Byte-offset index of an uncompressed tar: headers are walked once, nothing is extracted, no link is followed.

`tarfile` and everything built on it stops without a word at a damaged header; this walk says where and why, and what
lies before the damage is still good. The index is an Arrow file, kept by the tar's fingerprint and memory-mapped:
finding pictures in a tar of 2.5 million members costs one pass over their names.
"""

import contextlib
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from _newsclippings.errors import BadTarError
from _newsclippings.files import LocalFile, write_atomically
from _newsclippings.tar_headers import (
    DamageError,
    check_checksum,
    check_hidden,
    checksums,
    normal_names,
    number,
    pax_fields,
    plausible,
    short_name,
    stored_checksum,
)

BLOCK = 512
ZERO = bytes(BLOCK)
BATCH = 8192  # headers that are checked together
MAX_NAME = 1 << 20  # bytes of a long-name or PAX header
PLAIN = b"0\x007"  # member types that hold a file
_MAGIC = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "zstd -d"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"7z\xbc\xaf", "7-Zip", "7z x"),
    (b"Rar!", "RAR", "unrar x"),
)
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}

SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # in the normal form of paths.py
        ("offset", pa.int64()),  # byte of the member's data in the tar
        ("size", pa.int64()),  # bytes
        (
            "header_crc",
            pa.uint32(),
        ),  # CRC-32 of the 512 bytes before the data: tells a replaced tar at each read
    ]
)


@dataclass(frozen=True)
class TarIndex:
    """Where the files of a tar lie.

    Attributes:
        members: Arrow table of `SCHEMA`, in the order of the tar.
        damage: None, or at which byte, after how many members and why the walk had to stop; `members` is then the
            whole part before it.
    """

    members: pa.Table
    damage: str | None


def load_index(path: str, key: str, folder: Path) -> TarIndex:
    """The index of a tar, from the cache or by walking its headers.

    Args:
        path: the tar.
        key: its fingerprint; names the cached file.
        folder: where indexes are kept. One that cannot be written to costs the walk each time, and nothing else.
    """
    cached = folder / f"{key}.arrow"
    if cached.exists():
        with contextlib.suppress(pa.ArrowInvalid, OSError):  # not ours, or half of it: make it anew
            table = pa.ipc.open_file(pa.memory_map(str(cached))).read_all()
            if table.schema.equals(SCHEMA):
                damage = (table.schema.metadata or {}).get(b"damage")
                return TarIndex(table, damage.decode() if damage else None)
    index = walk(path)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(cached) as temporary:
            damage_note = {"damage": index.damage} if index.damage else None
            table = index.members.replace_schema_metadata(damage_note)
            with pa.ipc.new_file(temporary, table.schema) as writer:
                writer.write_table(table)
    return index


def walk(path: str) -> TarIndex:
    """Index a tar by hopping from header to header.

    Raises:
        BadTarError: the file is no uncompressed tar, or has a link, a device, a sparse file, a name that leaves the
            root, or a member twice. Damage (a truncated file, a header whose checksum fails, data after the end
            marker) is not raised: it is in the result.
    """
    with LocalFile(path) as file:
        _check_magic(file)
        walker = _Walk(file)
        with tqdm(
            total=file.size,
            desc=f"Indexing {os.path.basename(path)}",
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar:
            damage = walker.run(bar)
    if not walker.tables:
        why = damage or "it has no file in it"
        message = f"{path}: expected a tar with pictures, found that {why}. Fetch it again."
        raise BadTarError(message)
    members = pa.concat_tables(walker.tables).combine_chunks()
    _check_unique(members["name"], path)
    return TarIndex(members, f"{damage}. The whole part has {_covered(members['name'])}" if damage else None)


def _covered(names: pa.ChunkedArray) -> str:
    """How many pictures of each outlet a tar has, in words."""
    outlets = pc.extract_regex(names, r"^(?P<outlet>[^/]+)/images/")
    counts = pc.value_counts(pc.drop_null(pc.struct_field(outlets, [0]))).to_pylist()
    return "pictures of " + ", ".join(f"{c['values']} ({c['counts']:,})" for c in counts) if counts else "no picture"


class _Walk:
    """One pass over the headers. Plain members are collected and checked in batches, the rest at once."""

    def __init__(self, file: LocalFile) -> None:
        self.file = file
        self.tables: list[pa.Table] = []
        self.members = 0
        self.headers = bytearray()
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.long_names: dict[int, bytes] = {}  # position in the batch -> name from a GNU or PAX header
        self.pending: dict[bytes, bytes] = {}  # PAX fields for the next member; a GNU long name counts as path
        self.for_all: dict[bytes, bytes] = {}  # fields of global PAX headers

    def run(self, bar: tqdm) -> str | None:
        """Walk to the end; returns what stopped the walk early, if anything."""
        stop: DamageError | None = None
        try:
            byte = self._hop(bar)
            self._check_batch()
            self._check_end(byte)
        except DamageError as damage:
            stop = damage
            try:
                self._check_batch()
            except DamageError as earlier:  # a bad header further up led the hops astray
                stop = earlier
        if stop is None:
            return None
        return f"it is damaged at byte {stop.byte}, after {self.members} whole members: {stop.why}"

    def _hop(self, bar: tqdm) -> int:
        read_at, size = self.file.read_at, self.file.size
        headers, offsets, sizes = self.headers, self.offsets, self.sizes
        byte = 0
        while True:
            header = read_at(byte, BLOCK)
            if len(header) < BLOCK:
                raise DamageError(byte, "the file ends without the end marker of a tar (truncated)")
            if header[156] in PLAIN and header[124] < 0x80 and header[0] and not self.pending and not self.for_all:
                try:
                    length = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
                except ValueError:
                    raise DamageError(byte, "the size in a header is no octal number") from None
            else:
                if header == ZERO:
                    return byte
                kind, length = self._special(header, byte)
                if kind is None:
                    byte += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
                    continue
            if not 0 <= length <= size - byte - BLOCK:
                what = "the last member runs past the end of the file (truncated)" if length > 0 else "a negative size"
                raise DamageError(byte, what)
            headers += header
            offsets.append(byte + BLOCK)
            sizes.append(length)
            if len(offsets) == BATCH:
                self._check_batch()
                bar.update(byte - bar.n)
            byte += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK

    def _special(self, header: bytes, byte: int) -> tuple[bytes | None, int]:
        """A header that is not a plain file of a short name. Returns (None, bytes to skip) or (kind, size of data)."""
        check_checksum(header, byte)
        kind, length = header[156:157], number(header[124:136], byte)
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if length > MAX_NAME:
                raise DamageError(byte, f"a name or PAX header of {length} bytes")
            data = self.file.read_at(byte + BLOCK, length)
            if len(data) < length:
                raise DamageError(byte, "the file ends inside a name or PAX header (truncated)")
            if kind == b"L":
                self.pending[b"path"] = data.split(b"\0")[0]
            elif kind != b"K":
                (self.for_all if kind == b"g" else self.pending).update(pax_fields(data, byte))
            return None, length
        fields = {**self.for_all, **self.pending}
        self.pending.clear()
        if any(name.startswith(b"GNU.sparse") for name in fields):
            kind = b"S"
        name = fields.get(b"path", short_name(header))
        if kind == b"5":
            normal_names(pa.array([name + b"/x"]), self.file.path, [byte])
            return None, 0
        if kind not in (b"0", b"\0", b"7"):
            what = _REFUSED.get(kind, f"of type {kind!r}")
            message = (
                f"{self.file.path}: byte {byte}: member {name[:80].decode('utf-8', 'replace')!r} is {what}. "
                "Expected plain files and folders only; nothing else is read. Get the tar from its authors."
            )
            raise BadTarError(message)
        if b"size" in fields:
            if not re.fullmatch(rb"\d{1,18}", fields[b"size"]):
                raise DamageError(byte, "the size in a PAX header is no number")
            length = int(fields[b"size"])
        if b"path" in fields:
            self.long_names[len(self.offsets)] = name
        return kind, length

    def _check_batch(self) -> None:
        """Check the collected headers together and turn them into a table; what precedes a bad one is kept."""
        count = len(self.offsets)
        if not count:
            return
        blocks = np.frombuffer(bytes(self.headers), np.uint8).reshape(count, BLOCK)
        bad: DamageError | None = None
        for k in np.flatnonzero(~plausible(blocks)).tolist():
            try:
                check_checksum(blocks[k].tobytes(), self.offsets[k] - BLOCK)
                number(blocks[k, 124:136].tobytes(), self.offsets[k] - BLOCK)
                check_hidden(blocks[k].tobytes(), self.offsets[k] - BLOCK)
            except DamageError as damage:
                bad, count = damage, k
                break
        raw = np.ascontiguousarray(blocks[:count, :100]).view("S100").ravel().tolist()
        for k in np.flatnonzero((blocks[:count, 345] != 0) & (blocks[:count, 262] == 0)).tolist():
            raw[k] = short_name(blocks[k].tobytes())
        for k, name in self.long_names.items():
            if k < count:
                raw[k] = name
        if files := [k for k in range(count) if not raw[k].endswith(b"/")]:  # before POSIX folders were written so
            offsets = [self.offsets[k] for k in files]
            names = pa.array([raw[k] for k in files], pa.binary())
            names = normal_names(names, self.file.path, [offset - BLOCK for offset in offsets])
            crcs = pa.array([zlib.crc32(self.headers[k * BLOCK : (k + 1) * BLOCK]) for k in files], pa.uint32())
            self.tables.append(pa.table([names, offsets, [self.sizes[k] for k in files], crcs], schema=SCHEMA))
        self.members += len(files)
        self.headers.clear()
        self.offsets.clear()
        self.sizes.clear()
        self.long_names.clear()
        if bad is not None:
            raise bad

    def _check_end(self, byte: int) -> None:
        """Two zero blocks, and zeros only after them."""
        if self.pending:
            raise DamageError(byte, "a name or PAX header without its member")
        if self.file.read_at(byte + BLOCK, BLOCK) != ZERO:
            raise DamageError(byte, "a single zero block where a header or the end marker was expected")
        while data := self.file.read_at(byte, 1 << 20):
            if data.count(0) != len(data):
                raise DamageError(byte, "data after the end marker (a second archive was appended, or damage)")
            byte += len(data)


def _check_magic(file: LocalFile) -> None:
    head = file.read_at(0, BLOCK)
    for magic, what, tool in _MAGIC:
        if head.startswith(magic):
            message = (
                f"{file.path}: expected an uncompressed tar, found {what}. A compressed archive cannot be read at a "
                f"position: decompress it once ({tool} {os.path.basename(file.path)}), without unpacking the tar in it."
            )
            raise BadTarError(message)
    if head.lstrip()[:1] == b"<" or head.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer" if head.startswith(b"v") else "an HTML page"
        message = f"{file.path}: expected an uncompressed tar, found {what}. The download went wrong; fetch it again."
        raise BadTarError(message)
    if file.size < 2 * BLOCK or stored_checksum(head) not in checksums(head):
        found = f"{file.size} bytes that do not begin with a tar header"
        message = f"{file.path}: expected an uncompressed tar, found {found}. Is it a partial or another download?"
        raise BadTarError(message)


def _check_unique(names: pa.ChunkedArray, path: str) -> None:
    if len(pc.unique(names)) == len(names):
        return
    counts = pc.value_counts(names)
    twice = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
    message = f"{path}: expected each file once, found member {twice!r} twice. Get the tar from its authors."
    raise BadTarError(message)
