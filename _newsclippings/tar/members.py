"""Read members of a tar by their positions, and check each header against the index.

Members of a remote tar are fetched by range, neighbouring members by one request. The members that a build needs are
kept in a sparse local copy of the tar, with their data at the same positions. In place of each header, the copy has a
record with a checksum of the data. The record is written last, so that an interrupted build continues where it stopped.
Data that do not match their record are fetched again and never used.
"""

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from _newsclippings.errors import BadTarError, ConfigError, NewsCLIPpingsError, bad_file
from _newsclippings.storage import (
    MOVE_CACHE,
    PIECE,
    LocalFile,
    RandomFile,
    RangeFile,
    check_space,
    flush,
    is_full,
    is_remote,
    progress_bar,
    report_full_disk,
    reserve_bytes,
    split_range,
)
from _newsclippings.tables import Int64s, as_array, one_chunk, values_of
from _newsclippings.tar.checksums import DATA_CRC
from _newsclippings.tar.headers import BLOCK, is_header_of
from _newsclippings.tar.index import TarIndex
from _newsclippings.tar.links import TARGET
from _newsclippings.text import printable

WASTE = 1 / 16  # largest share of a request that may be bytes between members, fetched to save another request
NEXT = 2048  # most bytes between neighbouring members: padding, and a header for a long name
BATCH = 64 << 20  # bytes of data that are flushed to the disk before their records are written
VERIFIED = 16 << 10  # bytes that share a checksum in a `VerifiedRange`
_RECORD = struct.Struct("<16sIQ16s")  # magic, CRC-32 of the header, size of the data, their XXH3-128
_MAGIC = b"newsclippings+1\n"


@dataclass(frozen=True)
class Members:
    """Members of a tar, as the index describes them.

    Attributes:
        names: string (N,), in the normal form; of a link, that of its target.
        offsets: int64 (N,), byte of the tar at which the data of each begin.
        sizes: int64 (N,), in bytes.
        crcs: uint32 (N,), CRC-32 of each header.
        index: location of the index, for errors.
        kept: its file in the cache, which is removed if it does not fit the tar; None if it must stay.
        sums: uint32 (N,), CRC-32 of the data of each; None if the index has none.
    """

    names: pa.Array
    offsets: Int64s
    sizes: Int64s
    crcs: npt.NDArray[np.uint32]
    index: str
    kept: Path | None = None
    sums: npt.NDArray[np.uint32] | None = None

    @classmethod
    def from_index(cls, index: TarIndex, rows: Int64s) -> "Members":
        """Take rows of an index.

        Raises:
            BadFileError: the index was damaged since it was opened.
        """
        index.check()
        table = index.members.take(as_array(rows))
        offsets, sizes, crcs = (values_of(table[name]) for name in ("offset", "size", "header_crc"))
        names = table["name"]
        if TARGET.name in table.column_names:  # a link has the header of its target
            names = pc.coalesce(table[TARGET.name], names)
        sums = values_of(table[DATA_CRC.name]) if DATA_CRC.name in table.column_names else None
        return cls(one_chunk(names), offsets, sizes, crcs, index.location, index.kept, sums)

    def take(self, rows: Int64s) -> "Members":
        """Take some of these members."""
        names = self.names.take(as_array(rows))
        sums = None if self.sums is None else self.sums[rows]
        return Members(names, self.offsets[rows], self.sizes[rows], self.crcs[rows], self.index, self.kept, sums)

    def check(self, k: int, header: bytes | bytearray | memoryview, tar: str) -> None:
        """Raise `BadTarError` unless `header` is the header of the k-th member."""
        header = bytes(header)
        name = self.names[k].as_py()
        if zlib.crc32(header) != self.crcs[k] or not is_header_of(header, name, int(self.sizes[k])):
            expected = f"the header of {name} at byte {int(self.offsets[k]) - BLOCK:,}"
            if self.kept is None:
                raise other_tar(self.index, tar, expected, "another there")
            self.kept.unlink(missing_ok=True)  # the index may be the cause: build it again next time
            message = (
                f"{tar}: expected {expected}, as when it was indexed, found another there. The tar changed, or was "
                "not read correctly: its index was thrown away, load again."
            )
            raise BadTarError(message)

    def check_data(self, k: int, crc: int, tar: str) -> None:
        """Raise `BadTarError` unless `crc` is the CRC-32 of the data of the k-th member, if the index has it."""
        if self.sums is not None and crc != self.sums[k]:
            start = int(self.offsets[k])
            message = (
                f"{tar}: {self.names[k].as_py()}, bytes {start:,} to {start + int(self.sizes[k]):,} of the tar, is not "
                f"what was indexed: its CRC-32 is another than in {self.index}. The tar is damaged there, as after a "
                "broken download: fetch it again. `newsclippings verify` with this index names all such members."
            )
            raise BadTarError(message)


Sink = Callable[[int, int, memoryview], None]  # takes a member's row, a position in its data, and the data from there


def read_members(file: "RandomFile | TarCopy", members: Members, rows: Int64s, views: list[memoryview]) -> None:
    """Read the data of members into buffers of their sizes.

    Args:
        file: the tar, or the sparse copy of a remote one.
        members: of the tar.
        rows: int64 (N,), which members, each at most once.
        views: N buffers, filled with their data.

    Raises:
        BadTarError: the header before a member is not the one that was indexed.
    """
    if isinstance(file, TarCopy):
        file.read_members(members, rows, views)
        return
    if not is_remote(file):
        header = bytearray(BLOCK)
        for i in np.argsort(members.offsets[rows], kind="stable").tolist():  # front to back in the file
            row = int(rows[i])
            file.read_into(int(members.offsets[row]) - BLOCK, memoryview(header), views[i])
            members.check(row, header, file.path)
            if members.sums is not None:
                members.check_data(row, zlib.crc32(views[i]), file.path)
        return
    view_of = {int(row): view for row, view in zip(rows, views, strict=True)}

    def sink(row: int, at: int, data: memoryview) -> None:
        view_of[row][at : at + len(data)] = data

    for _ in _fetch(file, members, rows, sink):
        pass


class TarCopy:
    """The sparse copy of a remote tar. Members that it has lost are fetched again from the remote tar.

    Attributes:
        path: of the copy.
    """

    def __init__(self, copy: Path, remote: RangeFile, check_same: Callable[[], None]) -> None:
        """Open the copy, or create it.

        Args:
            copy: path of the copy.
            remote: the tar.
            check_same: raises `BadTarError` if the remote tar has been replaced.
        """
        self.path = str(copy)
        self._copy, self._remote, self._check_same = copy, remote, check_same
        self._file = open_copy(copy, remote.size)

    def fetch(self, members: Members, again: bool = False) -> None:
        """Fetch the members that the copy does not have; see `fetch_members`.

        Raises:
            BadTarError: the remote tar was replaced. The copy is removed, since it may have data of both.
        """
        with self._check_one_tar():
            fetch_members(self._remote, self._copy, members, again)
        self._file = open_copy(self._copy, self._remote.size)  # another process may have removed the one before

    def read_members(self, members: Members, rows: Int64s, views: list[memoryview]) -> None:
        """Read the data of members and check them against their records; fetch members again that do not match.

        Args: as the function `read_members`.
        """
        block, bad = bytearray(BLOCK), list[int]()
        for i in np.argsort(members.offsets[rows], kind="stable").tolist():  # front to back in the file
            row = int(rows[i])
            try:
                self._file.read_into(int(members.offsets[row]) - BLOCK, memoryview(block), views[i])
            except NewsCLIPpingsError:  # the copy was truncated or replaced, or the disk fails
                bad.append(i)
                continue
            if block != record(members, row, xxhash.xxh3_128_digest(views[i])):
                bad.append(i)
        if bad:
            again, into = rows[np.array(bad)], [views[i] for i in bad]
            with self._check_one_tar():
                read_members(self._remote, members, again, into)
            with contextlib.suppress(OSError):  # if they cannot be kept, the next read fetches them again
                _write_members(self._copy, members, again, into)

    def open_member(self, members: Members) -> "VerifiedRange":
        """Open a single member as a file whose positions are those of the tar.

        Args:
            members: exactly one, already fetched.

        Raises:
            BadFileError: the disk returns other bytes than were written to it.
        """
        for _ in range(2):
            opened = VerifiedRange(self._file, self._remote, int(members.offsets[0]), int(members.sizes[0]))
            if self._file.read_at(opened.start - BLOCK, BLOCK) == record(members, 0, opened.digest):
                return opened
            self.fetch(members, again=True)
        what = "other bytes on the disk than were written to it"
        raise bad_file(self.path, f"{members.names[0]} as it was fetched", what, "Check the disk, or choose another.")

    @contextlib.contextmanager
    def _check_one_tar(self) -> Iterator[None]:
        try:
            yield
            self._check_same()
        except BadTarError:  # the copy may have valid records of both tars
            self._copy.unlink(missing_ok=True)
            raise


class VerifiedRange:
    """A range of the copy for random reads. Each read is checked against checksums taken when it was opened."""

    def __init__(self, file: LocalFile, remote: RangeFile, start: int, size: int) -> None:
        """Read the range once, and compute `digest`, its XXH3-128, and a checksum of each piece."""
        self.path, self.size, self.start = file.path, file.size, start
        self._file, self._remote, self._stop = file, remote, start + size
        whole, sums = xxhash.xxh3_128(), list[int]()
        for low in range(start, self._stop, 64 * VERIFIED):
            data = memoryview(file.read_at(low, min(64 * VERIFIED, self._stop - low)))
            whole.update(data)
            sums += [xxhash.xxh3_64_intdigest(data[k : k + VERIFIED]) for k in range(0, len(data), VERIFIED)]
        self.digest, self._sums = whole.digest(), np.array(sums, np.uint64)

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from a byte of the tar on; fewer at the end of the range."""
        first, stop = (offset - self.start) // VERIFIED, min(offset + length, self._stop)
        if stop <= offset:
            return b""
        low = self.start + first * VERIFIED
        high = min(self.start - (self.start - stop) // VERIFIED * VERIFIED, self._stop)
        data = b""
        with contextlib.suppress(NewsCLIPpingsError):  # the copy is gone, or the disk fails
            data = self._file.read_at(low, high - low)
        if not self._is_right(first, data, high - low):  # it was damaged after it was opened
            data = self._remote.read_at(low, high - low)
            if not self._is_right(first, data, high - low):
                what = f"other bytes at byte {low:,}, there and on the server"
                raise bad_file(self.path, "what was fetched", what, "Load it again.")
        return data[offset - low : stop - low]

    def _is_right(self, first: int, data: bytes, length: int) -> bool:
        view = memoryview(data)
        sums = (xxhash.xxh3_64_intdigest(view[k : k + VERIFIED]) for k in range(0, length, VERIFIED))
        return len(data) == length and all(checksum == self._sums[first + k] for k, checksum in enumerate(sums))

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers in their order, from a byte of the tar on."""
        for buffer in buffers:
            buffer[:] = self.read_at(offset, len(buffer))
            offset += len(buffer)

    def skipping_reader(self) -> Callable[[int, int], bytes]:
        """Return `read_at`, since nothing need be read ahead; see `RandomFile`."""
        return self.read_at


def other_tar(index: str, tar: str, expected: str, found: str) -> BadTarError:
    """The error of a tar that is not the one that was indexed."""
    return BadTarError(
        f"{index} is not the index of {tar}: expected {expected}, found {found}. The tar is another version, or was "
        "replaced: make an index of this one (`newsclippings index`), or leave visual_news_index out."
    )


def record(members: Members, k: int, digest: bytes) -> bytes:
    """Make the record that the copy has in place of the header of the k-th member; `digest` is XXH3-128 of its data."""
    fields = _RECORD.pack(_MAGIC, int(members.crcs[k]), int(members.sizes[k]), digest)
    return (fields + xxhash.xxh3_64_digest(fields)).ljust(BLOCK, b"\0")


def fetch_members(file: RangeFile, copy: Path, members: Members, again: bool = False) -> None:
    """Fetch the members that a sparse local copy of a remote tar does not have.

    Args:
        file: the tar.
        copy: path of the copy.
        members: the members that are needed.
        again: also fetch members that the copy has.

    Raises:
        BadTarError: as `read_members`.
        NoSpaceError: the disk is too small.
        RemoteReadError: the server does not answer. Members that were fetched before are kept.
    """
    open_copy(copy, file.size).close()
    with report_full_disk(copy.parent), _open_to_write(copy) as descriptor:
        _fetch_into(descriptor, copy, file, members, again)


def _fetch_into(descriptor: int, copy: Path, file: RangeFile, members: Members, again: bool) -> None:
    rows = np.flatnonzero([again or not _has_record(descriptor, members, k) for k in range(len(members.offsets))])
    needed = int(members.sizes[rows].sum()) + BLOCK * len(rows)
    check_space(copy.parent, needed, "what has to be fetched", MOVE_CACHE)
    hashes: dict[int, xxhash.xxh3_128] = {}

    def sink(row: int, at: int, data: memoryview) -> None:
        hashes.setdefault(row, xxhash.xxh3_128()).update(data)  # pieces of a member come in order
        _write(descriptor, data, int(members.offsets[row]) + at)

    with progress_bar(
        total=needed,
        desc=f"Fetching from {printable(os.path.basename(file.path))}",
        unit="B",
        unit_scale=True,
    ) as bar:
        records: list[tuple[int, bytes]] = []
        unflushed = 0
        try:
            for row in _fetch(file, members, rows, sink):
                digest = hashes.pop(row, xxhash.xxh3_128()).digest()
                records.append((int(members.offsets[row]) - BLOCK, record(members, row, digest)))
                unflushed += int(members.sizes[row]) + BLOCK
                bar.update(int(members.sizes[row]) + BLOCK)
                if unflushed >= BATCH:
                    _commit(descriptor, records)
                    unflushed = 0
        finally:  # keep the members that were fetched before an error
            _commit(descriptor, records)


def _has_record(descriptor: int, members: Members, k: int) -> bool:
    """Check whether a copy has the record of the k-th member. The data are compared with it when they are read."""
    with contextlib.suppress(OSError):  # a bad sector, which the disk may replace when it is written again
        block = os.pread(descriptor, BLOCK, int(members.offsets[k]) - BLOCK)
        return block == record(members, k, block[_RECORD.size - 16 : _RECORD.size].ljust(16, b"\0"))
    return False


def _write_members(copy: Path, members: Members, rows: Int64s, views: list[memoryview]) -> None:
    """Write the data of members, and then their records, to a copy."""
    with _open_to_write(copy) as descriptor:
        for row, view in zip(rows.tolist(), views, strict=True):
            _write(descriptor, view, int(members.offsets[row]))
        places = (members.offsets[rows] - BLOCK).tolist()
        digests = map(xxhash.xxh3_128_digest, views)
        known = [record(members, row, digest) for row, digest in zip(rows.tolist(), digests, strict=True)]
        _commit(descriptor, list(zip(places, known, strict=True)))


def open_copy(copy: Path, size: int) -> LocalFile:
    """Open a sparse copy for reading; if there is none, create it as one hole of `size` bytes.

    Raises:
        NoSpaceError: the disk is full.
        ConfigError: it cannot be created for another reason, or something that is not a file has its name.
    """
    with report_full_disk(copy.parent):
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with _open_to_write(copy, os.O_CREAT) as descriptor:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise _no_copy(copy, "something that is not a file has its name")
                if status.st_size != size:
                    reserve_bytes(descriptor, size)
        except OSError as error:
            if is_full(error):
                raise
            why = "a link has its name" if os.path.islink(copy) else error.strerror or type(error).__name__
            raise _no_copy(copy, why) from None
    return LocalFile(str(copy), may_change=True)  # other processes may write to it


def _no_copy(copy: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{copy}: what is fetched of a remote tar cannot be kept there ({why}). Remove what is there, or point "
        "cache_dir= or HF_DATASETS_CACHE to a folder of your own."
    )


@contextlib.contextmanager
def _open_to_write(copy: Path, flags: int = 0) -> Iterator[int]:
    """Open a descriptor of a copy, without following links."""
    flags |= os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(copy, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _commit(descriptor: int, records: list[tuple[int, bytes]]) -> None:
    """Flush the data of members to the disk, then write their records."""
    flushed = records.copy()
    records.clear()  # before the flush: if it fails, a second flush would succeed although data are lost
    flush(descriptor)
    for offset, block in flushed:
        _write(descriptor, memoryview(block), offset)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all data; a disk that becomes full may accept only a part, without an error."""
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _fetch(file: RangeFile, members: Members, rows: Int64s, sink: Sink) -> Iterator[int]:
    """Pass the data of members to a sink, piece by piece, and yield each row that is complete."""
    rows = rows[np.argsort(members.offsets[rows], kind="stable")]
    starts, stops = members.offsets[rows] - BLOCK, members.offsets[rows] + members.sizes[rows]
    plan = list(plan_requests(starts, stops))
    reads = file.read_ranges([(start, stop) for start, stop, _, _ in plan])
    sums = dict[int, int]()  # CRC-32 so far, of members that come in pieces
    for ((start, stop), data), (_, _, first, last) in zip(reads, plan, strict=True):
        view = memoryview(data)
        for k in range(first, last):
            row, body = int(rows[k]), int(starts[k]) + BLOCK
            if starts[k] >= start:
                members.check(row, view[int(starts[k]) - start : body - start], file.path)
            low, high = max(body, start), min(int(stops[k]), stop)
            if low < high:
                sink(row, low - body, view[low - start : high - start])
                if members.sums is not None:
                    sums[row] = zlib.crc32(view[low - start : high - start], sums.get(row, 0))
            if stops[k] <= stop:
                members.check_data(row, sums.pop(row, 0), file.path)
                yield row


def plan_requests(starts: Int64s, stops: Int64s) -> Iterator[tuple[int, int, int, int]]:
    """Plan the ranges to request for members that are sorted by their positions.

    Neighbours share a range if it is not too long and little of it is unused. A long member has several ranges.

    Args:
        starts: int64 (N,), first byte of each member, with its header.
        stops: int64 (N,), byte after the last.

    Yields:
        First byte, byte after the last, first member, member after the last.
    """
    first = 0
    while first < len(starts):
        start, stop, unused, last = int(starts[first]), int(stops[first]), 0, first + 1
        if stop - start > PIECE:
            for low, high in split_range(start, stop):
                yield low, high, first, last
        else:
            while last < len(starts):
                gap, end = int(starts[last]) - stop, int(stops[last])
                if end - start > PIECE or (gap > NEXT and unused + gap > WASTE * (end - start)):
                    break
                stop, unused, last = max(stop, end), unused + (gap if gap > NEXT else 0), last + 1
            yield start, stop, first, last
        first = last
