"""Walk the headers of a tar from one position to another, and list its files."""

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
    are_plausible,
    check_checksum,
    check_hidden_bytes,
    normalise_names,
    parse_pax_fields,
    parse_size,
    read_name,
)

BATCH = 2048  # headers checked together
MAX_NAME = 1 << 20  # bytes of a long-name or PAX header
MAX_PATH = 8192  # bytes of a name that is kept until its batch is checked
_USED_FIELDS = (b"path", b"size")  # PAX fields that the walk uses, besides all that begin with GNU.sparse
_SPARSE, _ANY = b"GNU.sparse", b""  # keys for any GNU.sparse field, and for a PAX header without used fields

SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # in the normal form of `normalise_path`
        ("offset", pa.int64()),  # byte of the tar at which the member's data begin
        ("size", pa.int64()),  # bytes
        ("header_crc", pa.uint32()),  # CRC-32 of the 512 bytes before the data; checked at each read
    ]
)


@dataclass(frozen=True)
class Segment:
    """The members from one header up to another.

    Attributes:
        start: byte of the first header.
        end: byte of the header after the last member; of the end marker if `at_end`.
        members: Arrow table of `SCHEMA`.
        at_end: whether the walk reached the end marker.
        stop: the error that stopped the walk early; None if it ended normally.
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
        advance: called now and then with the number of bytes walked since the last call.

    Raises:
        GlobalFieldsError: the segment is only a part of the tar and has global fields, which apply to later segments.
    """
    return _Walk(file, start, stop, advance).run()


class _Walk:
    """One pass over the headers of a segment. Plain headers are checked in batches, all others one by one."""

    def __init__(self, file: RandomFile, start: int, stop: int, advance: Callable[[int], None]) -> None:
        self.file = file
        self.read_at = file.skipping_reader()
        self.start, self.stop = start, stop
        self.advance = advance
        self.tables: list[pa.Table] = []
        self.headers = bytearray()
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.long_names: dict[int, bytes] = {}  # position in the batch -> name from a GNU or PAX header
        self.pending: dict[bytes, bytes] = {}  # PAX fields for the next member; a GNU long name counts as path
        self.global_fields: dict[bytes, bytes] = {}  # fields of global PAX headers

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
            except (DamageError, BadTarError) as earlier:  # an earlier bad header gave the wrong position
                stop = earlier
        tables = [empty_table(SCHEMA), *self.tables]
        return Segment(self.start, end, pa.concat_tables(tables).combine_chunks(), at_end, stop)

    def _hop(self) -> tuple[int, bool]:
        read_at, size, stop = self.read_at, self.file.size, self.stop
        headers, offsets, sizes = self.headers, self.offsets, self.sizes
        byte = reported = self.start
        while byte < stop or self.pending or stop == size:
            header = read_at(byte, BLOCK)
            if len(header) < BLOCK:
                raise DamageError(byte, "the file ends without the end marker of a tar (truncated)")
            if (
                header[156] in PLAIN
                and header[124] < 0x80
                and header[0]
                and not self.pending
                and not self.global_fields
            ):
                try:
                    length = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
                except ValueError:
                    raise DamageError(byte, "the size in a header is no octal number") from None
            else:
                if header == ZERO:
                    return byte, True
                kind, length = self._read_special(header, byte)
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
                self.advance(min(byte, stop) - reported)
                reported = min(byte, stop)
        self.advance(max(0, stop - reported))
        return byte, False

    def _read_special(self, header: bytes, byte: int) -> tuple[bytes | None, int]:
        """Handle a header that is not a plain file with a short name.

        Returns:
            The type of the member and the size of its data; None and the bytes to skip if it is no file.
        """
        check_checksum(header, byte)
        kind, length = header[156:157], parse_size(header[124:136], byte)
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if length > MAX_NAME:
                raise DamageError(byte, f"a name or PAX header of {length} bytes")
            data = self.read_at(byte + BLOCK, length)
            if len(data) < length:
                raise DamageError(byte, "the file ends inside a name or PAX header (truncated)")
            if kind == b"L":
                name = data.rstrip(b"\0")
                if b"\0" in name:
                    raise DamageError(byte, "bytes are hidden after a NUL in a long name")
                if name == data and length % BLOCK and self.read_at(byte + BLOCK + length, 1) not in (b"", b"\0"):
                    raise DamageError(byte, "a long name goes on after its size")  # other readers use all of it
                self._remember(kind, {b"path": name}, byte)
            elif kind == b"K":
                self._remember(kind, {}, byte)
            else:
                self._remember(kind, parse_pax_fields(data, byte), byte)
            return None, length
        fields = {**self.global_fields, **self.pending}
        self.pending.clear()
        if _SPARSE in fields:
            kind = b"S"
        name = fields.get(b"path", read_name(header))
        if kind == b"5":
            normalise_names(array_of([name + b"/x"], pa.binary()), self.file.path, [byte])
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
            if length != int(fields[b"size"]) < 1 << 33:  # the largest size that fits into a header
                raise DamageError(byte, "a PAX header gives the member another size than its own header")
            length = int(fields[b"size"])
        if b"path" in fields:
            if len(name) > MAX_PATH:
                # Check it now and not with its batch: many such names would fill the memory
                normalise_names(array_of([name], pa.binary()), self.file.path, [byte])
            self.long_names[len(self.offsets)] = name
        return kind, length

    def _remember(self, kind: bytes, fields: dict[bytes, bytes], byte: int) -> None:
        """Keep the used fields of a PAX header: for the next member, or for all members if the header is global."""
        used = {k: v for k, v in fields.items() if k in _USED_FIELDS}
        if any(k.startswith(_SPARSE) for k in fields):
            used[_SPARSE] = b""
        if kind != b"g":
            if b"path" in used and b"path" in self.pending:
                raise DamageError(byte, "two long names for one member")
            self.pending.update({_ANY: b"", **used})
            return
        if used and (self.start, self.stop) != (0, self.file.size):
            raise GlobalFieldsError
        self.global_fields.update(used)

    def _check_batch(self) -> None:
        """Check the collected headers together and add them as a table; members before a bad header are kept."""
        count = len(self.offsets)
        if not count:
            return
        blocks = np.frombuffer(bytes(self.headers), np.uint8).reshape(count, BLOCK)
        bad: DamageError | None = None
        for k in np.flatnonzero(~are_plausible(blocks)).tolist():
            try:
                check_checksum(blocks[k].tobytes(), self.offsets[k] - BLOCK)
                parse_size(blocks[k, 124:136].tobytes(), self.offsets[k] - BLOCK)
                check_hidden_bytes(blocks[k].tobytes(), self.offsets[k] - BLOCK)
            except DamageError as damage:
                bad, count = damage, k
                break
        names = np.ascontiguousarray(blocks[:count, :100]).view("S100").ravel()
        long = {k: name for k, name in self.long_names.items() if k < count}
        for k in np.flatnonzero((blocks[:count, 345] != 0) & (blocks[:count, 262] == 0)).tolist():
            long.setdefault(k, read_name(blocks[k].tobytes()))
        raw = array_of([long.get(k, name) for k, name in enumerate(names.tolist())], pa.binary())
        view = memoryview(self.headers)
        crcs = np.array([zlib.crc32(view[k : k + BLOCK]) for k in range(0, count * BLOCK, BLOCK)], np.uint32)
        view.release()
        offsets, sizes = np.array(self.offsets[:count]), np.array(self.sizes[:count])
        files = np.flatnonzero(~values_of(pc.ends_with(raw, b"/")))  # pre-POSIX tars mark folders by a slash
        if len(files):
            named = normalise_names(raw.take(as_array(files)), self.file.path, offsets[files] - BLOCK)
            numbers = (as_array(each[files]) for each in (offsets, sizes, crcs))
            self.tables.append(pa.table([named, *numbers], schema=SCHEMA))
        self.headers.clear()
        self.offsets.clear()
        self.sizes.clear()
        self.long_names.clear()
        if bad is not None:
            raise bad
