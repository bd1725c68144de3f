"""One walk over the headers of a tar, from one of them to another: what is a file and where it lies."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import BadTarError
from _newsclippings.storage import RandomFile
from _newsclippings.tables import array_of, as_array, empty_table, values_of
from _newsclippings.tar.headers import (
    BLOCK,
    PLAIN,
    REFUSED,
    ZERO,
    DamageError,
    check_checksum,
    check_hidden,
    normal_names,
    number,
    pax_fields,
    plausible,
    short_name,
)

BATCH = 2048  # headers that are checked together
MAX_NAME = 1 << 20  # bytes of a long-name or PAX header
MAX_PATH = 8192  # bytes of a name that are worth keeping until names are checked
_SAYS_WHERE = (b"path", b"size")  # PAX fields that matter here, and all of GNU.sparse
_SPARSE, _ANY = b"GNU.sparse", b""  # stand for those, and for a header that says nothing of interest

SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # in the normal form of paths.py
        ("offset", pa.int64()),  # byte of the member's data in the tar
        ("size", pa.int64()),  # bytes
        ("header_crc", pa.uint32()),  # CRC-32 of the 512 bytes before the data: tells a replaced tar at each read
    ]
)


@dataclass(frozen=True)
class Segment:
    """What was found from one header up to another.

    Attributes:
        start: byte of the first header.
        end: byte of the header after the last member; of the end marker if `at_end`.
        members: Arrow table of `SCHEMA`.
        at_end: whether the end marker was met.
        stop: what stopped the walk early, if anything.
    """

    start: int
    end: int
    members: pa.Table
    at_end: bool
    stop: DamageError | BadTarError | None


class GlobalFieldsError(Exception):
    """A global PAX header gives every member after it a name or a size."""


def walk_segment(file: RandomFile, start: int, stop: int, advance: Callable[[int], None]) -> Segment:
    """Walk from a header to the first one at or after `stop`, or to the end marker.

    Args:
        file: the tar.
        start: byte of a header.
        stop: where to stop; the size of the file for a walk to its end.
        advance: is told of each few bytes that were walked.

    Raises:
        GlobalFieldsError: the segment is not the whole tar, and what is after it cannot be understood without it.
    """
    return _Walk(file, start, stop, advance).run()


class _Walk:
    """One pass over the headers of a segment. Plain members are collected and checked in batches, the rest at once."""

    def __init__(self, file: RandomFile, start: int, stop: int, advance: Callable[[int], None]) -> None:
        self.file = file
        self.read_at = file.hop_reader()
        self.start, self.stop = start, stop
        self.advance = advance
        self.tables: list[pa.Table] = []
        self.headers = bytearray()
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.long_names: dict[int, bytes] = {}  # position in the batch -> name from a GNU or PAX header
        self.pending: dict[bytes, bytes] = {}  # PAX fields for the next member; a GNU long name counts as path
        self.for_all: dict[bytes, bytes] = {}  # fields of global PAX headers

    def run(self) -> Segment:
        """Walk to the first header at or after `stop`, or to the end marker."""
        end, at_end = self.start, False
        stop: DamageError | BadTarError | None = None
        try:
            end, at_end = self._hop()
            self._check_batch()
            if at_end and self.pending:
                stop = DamageError(end, "a name or PAX header without its member")
        except (DamageError, BadTarError) as damage:
            stop = damage
            try:
                self._check_batch()
            except (DamageError, BadTarError) as earlier:  # a bad header further up led the hops astray
                stop = earlier
        tables = [empty_table(SCHEMA), *self.tables]
        return Segment(self.start, end, pa.concat_tables(tables).combine_chunks(), at_end, stop)

    def _hop(self) -> tuple[int, bool]:
        read_at, size, stop = self.read_at, self.file.size, self.stop
        headers, offsets, sizes = self.headers, self.offsets, self.sizes
        byte = told = self.start
        while byte < stop or self.pending or stop == size:
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
                    return byte, True
                kind, length = self._special(header, byte)
                if kind is None:
                    byte += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
                    continue
            if not 0 <= length <= size - byte - BLOCK:
                if length < 0:
                    raise DamageError(byte, "a negative size")
                what = f"the last member, of {length:,} bytes, runs past the end of the file"
                raise DamageError(byte, f"{what} (truncated, or a false size)")
            headers += header
            offsets.append(byte + BLOCK)
            sizes.append(length)
            byte += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
            if len(offsets) == BATCH:
                self._check_batch()
                self.advance(min(byte, stop) - told)
                told = min(byte, stop)
        self.advance(max(0, stop - told))
        return byte, False

    def _special(self, header: bytes, byte: int) -> tuple[bytes | None, int]:
        """A header that is not a plain file of a short name. Returns (None, bytes to skip) or (kind, size of data)."""
        check_checksum(header, byte)
        kind, length = header[156:157], number(header[124:136], byte)
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if length > MAX_NAME:
                raise DamageError(byte, f"a name or PAX header of {length} bytes")
            data = self.read_at(byte + BLOCK, length)
            if len(data) < length:
                raise DamageError(byte, "the file ends inside a name or PAX header (truncated)")
            if kind == b"L":
                name = data.rstrip(b"\0")
                if b"\0" in name:
                    raise DamageError(byte, "bytes are hidden behind a NUL in a long name")
                if name == data and length % BLOCK and self.read_at(byte + BLOCK + length, 1) not in (b"", b"\0"):
                    raise DamageError(byte, "a long name goes on behind its size")  # other readers take all of it
                self._remember(kind, {b"path": name}, byte)
            elif kind == b"K":
                self._remember(kind, {}, byte)
            else:
                self._remember(kind, pax_fields(data, byte), byte)
            return None, length
        fields = {**self.for_all, **self.pending}
        self.pending.clear()
        if _SPARSE in fields:
            kind = b"S"
        name = fields.get(b"path", short_name(header))
        if kind == b"5":
            normal_names(array_of([name + b"/x"], pa.binary()), self.file.path, [byte])
            return None, 0
        if kind not in (b"0", b"\0", b"7"):
            what = REFUSED.get(kind, f"of type {kind!r}")
            message = (
                f"{self.file.path}: byte {byte}: member {name[:80].decode('utf-8', 'replace')!r} is {what}. "
                "Expected plain files and folders only; nothing else is read. Get the tar from its authors."
            )
            raise BadTarError(message)
        if b"size" in fields:
            if not re.fullmatch(rb"\d{1,18}", fields[b"size"]):
                raise DamageError(byte, "the size in a PAX header is no number")
            if length != int(fields[b"size"]) < 1 << 33:  # what a header has room for
                raise DamageError(byte, "a PAX header gives the member another size than its own header")
            length = int(fields[b"size"])
        if b"path" in fields:
            if len(name) > MAX_PATH:
                # Refused now: many of them fill the memory
                normal_names(array_of([name], pa.binary()), self.file.path, [byte])
            self.long_names[len(self.offsets)] = name
        return kind, length

    def _remember(self, kind: bytes, fields: dict[bytes, bytes], byte: int) -> None:
        """Keep what matters of a PAX header, and not more than that, for the next member, or for all."""
        some = {k: v for k, v in fields.items() if k in _SAYS_WHERE}
        if any(k.startswith(_SPARSE) for k in fields):
            some[_SPARSE] = b""
        if kind != b"g":
            if b"path" in some and b"path" in self.pending:
                raise DamageError(byte, "two long names for one member")
            self.pending.update({_ANY: b"", **some})
            return
        if some and (self.start, self.stop) != (0, self.file.size):
            raise GlobalFieldsError
        self.for_all.update(some)

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
        names = np.ascontiguousarray(blocks[:count, :100]).view("S100").ravel()
        long = {k: name for k, name in self.long_names.items() if k < count}
        for k in np.flatnonzero((blocks[:count, 345] != 0) & (blocks[:count, 262] == 0)).tolist():
            long.setdefault(k, short_name(blocks[k].tobytes()))
        raw = array_of([long.get(k, name) for k, name in enumerate(names.tolist())], pa.binary())
        view = memoryview(self.headers)
        crcs = np.array([zlib.crc32(view[k : k + BLOCK]) for k in range(0, count * BLOCK, BLOCK)], np.uint32)
        view.release()
        offsets, sizes = np.array(self.offsets[:count]), np.array(self.sizes[:count])
        files = np.flatnonzero(~values_of(pc.ends_with(raw, b"/")))  # before POSIX folders were written so
        if len(files):
            named = normal_names(raw.take(as_array(files)), self.file.path, offsets[files] - BLOCK)
            numbers = (as_array(each[files]) for each in (offsets, sizes, crcs))
            self.tables.append(pa.table([named, *numbers], schema=SCHEMA))
        self.headers.clear()
        self.offsets.clear()
        self.sizes.clear()
        self.long_names.clear()
        if bad is not None:
            raise bad
