"""Walk the headers of a tar from one position to another, and list its members."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.storage import RandomFile, normalise_paths
from _newsclippings.tables import array_of, as_array, empty_table, values_of
from _newsclippings.tar.headers import (
    BLOCK,
    HARD,
    NO_DATA,
    PLAIN,
    SPARSE,
    SYMBOLIC,
    ZERO,
    DamageError,
    are_plausible,
    check_checksum,
    check_hidden_bytes,
    parse_pax_fields,
    parse_size,
    read_name,
)
from _newsclippings.text import printable

BATCH = 2048  # headers checked together
MAX_NAME = 1 << 20  # bytes of a long-name or PAX header
MAX_PATH = 8192  # bytes that are kept of a name; more than any name that is used has
SHOWN_NAME = 80  # characters that are shown of a name that is not used
# PAX fields that the walk uses, besides all that begin with GNU.sparse. The real name of a sparse file is in the last.
_USED_FIELDS = (b"path", b"size", b"linkpath", b"GNU.sparse.name")
_SPARSE, _ANY = b"GNU.sparse", b""  # keys for any GNU.sparse field, and for a PAX header without used fields
_EXTENDED, _EXTENDED_AGAIN = (
    482,
    504,
)  # bytes of an old sparse header, and of a block after it, that say: one more block

SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # in the normal form of `normalise_path`
        ("offset", pa.int64()),  # byte of the tar at which the member's data begin
        ("size", pa.int64()),  # bytes
        ("header_crc", pa.uint32()),  # CRC-32 of the 512 bytes before the data; checked at each read
    ]
)
ODD = ord("?")  # in the place of the type of a member whose name is not used; the column `name` shows its beginning
WALKED = pa.schema(
    [
        *SCHEMA,
        ("kind", pa.uint8()),  # 0 for a plain file, `ODD`, or the type in the header; only plain files have a size here
        ("target", pa.string()),  # of a link, as it is in the tar; null if it is not UTF-8
        ("folder", pa.string()),  # of a link, as it is in the tar
    ]
)


@dataclass(frozen=True)
class Segment:
    """The members from one header up to another.

    Attributes:
        start: byte of the first header.
        end: byte of the header after the last member; of the end marker if `at_end`.
        members: Arrow table of `WALKED`.
        at_end: whether the walk reached the end marker.
        stop: the damage that stopped the walk early; None if it ended normally.
    """

    start: int
    end: int
    members: pa.Table
    at_end: bool
    stop: DamageError | None


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
        self.kinds: dict[int, int] = {}  # position in the batch -> type, of all that are no plain files
        self.targets: dict[int, bytes] = {}  # position in the batch -> target of a link
        self.pending: dict[bytes, bytes] = {}  # PAX fields for the next member; a GNU long name counts as path
        self.global_fields: dict[bytes, bytes] = {}  # fields of global PAX headers

    def run(self) -> Segment:
        """Walk to the first header at or after `stop`, or to the end marker."""
        end, at_end = self.start, False
        stop: DamageError | None = None
        try:
            end, at_end = self._hop()
            self._check_batch()
            if at_end and self.pending:
                stop = DamageError(end, "a name or PAX header without its member")
        except DamageError as damage:
            stop = damage
            try:
                self._check_batch()
            except DamageError as earlier:  # an earlier bad header gave the wrong position
                stop = earlier
        tables = [empty_table(WALKED), *self.tables]
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
                is_member, length = self._read_special(header, byte)
                if not is_member:
                    byte += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
                    continue
            if not 0 <= length <= size - byte - BLOCK:
                if length < 0:
                    raise DamageError(byte, "a negative size")
                what = f"the last member, of {length:,} bytes, runs past the end of the file"
                raise DamageError(byte, f"{what} (truncated, or a false size)")
            headers += header
            offsets.append(byte + BLOCK)
            sizes.append(length if len(sizes) not in self.kinds else 0)
            byte += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
            if len(offsets) == BATCH:
                self._check_batch()
                self.advance(min(byte, stop) - reported)
                reported = min(byte, stop)
        self.advance(max(0, stop - reported))
        return byte, False

    def _read_special(self, header: bytes, byte: int) -> tuple[bool, int]:
        """Handle a header that is not a plain file with a short name.

        Returns:
            Whether it is that of a member other than a folder, and the bytes of its data.
        """
        check_checksum(header, byte)
        kind, length = header[156:157], parse_size(header[124:136], byte)
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if length > MAX_NAME:
                raise DamageError(byte, f"a name or PAX header of {length} bytes")
            data = self.read_at(byte + BLOCK, length)
            if len(data) < length:
                raise DamageError(byte, "the file ends inside a name or PAX header (truncated)")
            if kind in b"LK":
                name = data.rstrip(b"\0")
                if b"\0" in name:
                    raise DamageError(byte, "bytes are hidden after a NUL in a long name")
                if name == data and length % BLOCK and self.read_at(byte + BLOCK + length, 1) not in (b"", b"\0"):
                    raise DamageError(byte, "a long name goes on after its size")  # other readers use all of it
                self._remember(kind, {b"path" if kind == b"L" else b"linkpath": name}, byte)
            else:
                self._remember(kind, parse_pax_fields(data, byte), byte)
            return False, length
        fields = {**self.global_fields, **self.pending}
        self.pending.clear()
        if kind == b"5":
            return False, 0
        if b"size" in fields:
            if not re.fullmatch(rb"\d{1,18}", fields[b"size"]):
                raise DamageError(byte, "the size in a PAX header is no number")
            if length != int(fields[b"size"]) < 1 << 33:  # the largest size that fits into a header
                raise DamageError(byte, "a PAX header gives the member another size than its own header")
            length = int(fields[b"size"])
        row = len(self.offsets)
        if kind[0] not in PLAIN or _SPARSE in fields:
            self.kinds[row] = SPARSE[0] if kind[0] in PLAIN else kind[0]
        if (long := fields.get(b"GNU.sparse.name", fields.get(b"path"))) is not None:
            self.long_names[row] = long[:MAX_PATH]
        if kind in (HARD, SYMBOLIC):
            self.targets[row] = fields.get(b"linkpath", header[157:257].split(b"\0")[0])[:MAX_PATH]
        if kind == SPARSE:
            length += self._count_map_bytes(header, byte)
        return True, 0 if kind in NO_DATA else length

    def _count_map_bytes(self, header: bytes, byte: int) -> int:
        """Count the bytes between the header of an old sparse file and its data: blocks that continue its map."""
        count, more = 0, header[_EXTENDED]
        while more:
            count += BLOCK
            block = self.read_at(byte + count, BLOCK)
            if len(block) < BLOCK:
                raise DamageError(byte, "the file ends inside the map of a sparse file (truncated)")
            more = block[_EXTENDED_AGAIN]
        return count

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
        kinds = np.zeros(count, np.uint8)
        for k, kind in self.kinds.items():
            kinds[k : k + 1] = kind
        named = _normalise_names(raw, kinds)
        targets, folders = pa.nulls(count, pa.string()), pa.nulls(count, pa.string())
        if self.targets:
            texts = [self.targets.get(k) for k in range(count)]
            targets = array_of([_decode(text) if text is not None else None for text in texts], pa.string())
            in_folder = [raw[k].as_py() if text is not None else None for k, text in enumerate(texts)]
            folders = array_of([_folder_of(name) if name is not None else None for name in in_folder], pa.string())
        files = np.flatnonzero(~values_of(pc.ends_with(raw, b"/")))  # pre-POSIX tars mark folders by a slash
        numbers = np.array(self.offsets[:count]), np.array(self.sizes[:count]), crcs, kinds
        table = pa.table([named, *map(as_array, numbers), targets, folders], schema=WALKED)
        self.tables.append(table if len(files) == count else table.take(as_array(files)))
        self.headers.clear()
        self.offsets.clear()
        self.sizes.clear()
        self.long_names.clear()
        self.kinds.clear()
        self.targets.clear()
        if bad is not None:
            raise bad


def _normalise_names(raw: pa.Array, kinds: npt.NDArray[np.uint8]) -> pa.Array:
    """Bring member names into the normal form (see `normalise_paths`).

    A name that is refused, because it is not UTF-8 or may leave the root, becomes one to show, and its kind `ODD`.
    """
    bad = list[int]()
    try:
        names = raw.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [_decode(name) for name in raw.to_pylist()]
        bad += [k for k, text in enumerate(texts) if text is None]
        names = array_of(texts, pa.string())
    names = normalise_paths(names, lambda k, _: bad.append(k))
    if not bad:
        return names
    values = names.to_pylist()
    for k in bad:
        kinds[k] = ODD
        values[k] = printable(raw[k].as_py()[: 4 * SHOWN_NAME].decode("utf-8", "replace")[:SHOWN_NAME])
    return array_of(values, pa.string())


def _decode(text: bytes) -> str | None:
    """Decode UTF-8; return None if it is none."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _folder_of(name: bytes) -> str:
    return name.rpartition(b"/")[0].decode("utf-8", "replace")  # a name that is not UTF-8 is odd, and not used
