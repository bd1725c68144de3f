"""Members of a tar, read at their places: each header is compared with the index, so that no other tar is read.

Members of a remote tar are fetched by range, neighbouring ones with one request. What a build needs is kept in a sparse
local copy of the tar, in which the data of every member are where they are in the remote one. In place of its header,
the copy has a record that proves the data. It is written last, so that an interrupted build continues where it was;
data that do not match it are fetched again, and never used.
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
import xxhash
from tqdm.auto import tqdm

from _newsclippings.errors import BadTarError, ConfigError, NewsCLIPpingsError, bad_file
from _newsclippings.storage import (
    ELSEWHERE,
    PIECE,
    LocalFile,
    RandomFile,
    RemoteFile,
    check_space,
    extend,
    flush,
    is_full,
    pieces,
    report_full_disk,
)
from _newsclippings.tables import Int64s, as_array, one_chunk, values_of
from _newsclippings.tar.headers import BLOCK, is_header_of
from _newsclippings.tar.index import TarIndex
from _newsclippings.text import printable

WASTE = 1 / 16  # of a request: bytes between members that are fetched to save another request
NEXT = 2048  # bytes between members that are next to each other: padding, and a header for a long name
BATCH = 64 << 20  # bytes that are written to the disk before their records are
PROVED = 16 << 10  # bytes of a stretch that are compared together when some of them are read
_RECORD = struct.Struct("<16sIQ16s")  # magic, CRC-32 of the header, size of the data, their XXH3-128
_MAGIC = b"newsclippings+1\n"


@dataclass(frozen=True)
class Members:
    """Some members of a tar.

    Attributes:
        names: string (N,), in the normal form.
        offsets: int64 (N,), byte of the data of each.
        sizes: int64 (N,), in bytes.
        crcs: uint32 (N,), CRC-32 of each header.
        index: location of the index that says so, for errors.
        kept: its file in the cache, if it was made there.
    """

    names: pa.Array
    offsets: Int64s
    sizes: Int64s
    crcs: npt.NDArray[np.uint32]
    index: str
    kept: Path | None = None

    @classmethod
    def of(cls, index: TarIndex, rows: Int64s) -> "Members":
        """Some rows of an index."""
        table = index.members.take(as_array(rows))
        offsets, sizes, crcs = (values_of(table[name]) for name in ("offset", "size", "header_crc"))
        return cls(one_chunk(table["name"]), offsets, sizes, crcs, index.location, index.kept)

    def some(self, rows: Int64s) -> "Members":
        """Some of them."""
        names = self.names.take(as_array(rows))
        return Members(names, self.offsets[rows], self.sizes[rows], self.crcs[rows], self.index, self.kept)

    def check(self, k: int, header: bytes | bytearray | memoryview, tar: str) -> None:
        """Raise `BadTarError` if the bytes before the data of the k-th are not its header."""
        header = bytes(header)
        name = self.names[k].as_py()
        if zlib.crc32(header) != self.crcs[k] or not is_header_of(header, name, int(self.sizes[k])):
            expected = f"the header of {name} at byte {int(self.offsets[k]) - BLOCK:,}"
            if self.kept is None:
                raise other_tar(self.index, tar, expected, "another there")
            self.kept.unlink(missing_ok=True)  # whatever was wrong when it was made, or is now
            message = (
                f"{tar}: expected {expected}, as when it was indexed, found another there. The tar changed, or was "
                "not read correctly: its index was thrown away, load again."
            )
            raise BadTarError(message)


Sink = Callable[[int, int, memoryview], None]  # takes the bytes of the k-th from one of its bytes on


def read_members(file: "RandomFile | TarCopy", members: Members, rows: Int64s, views: list[memoryview]) -> None:
    """Read the data of some members into buffers of their sizes, each member once.

    Raises:
        BadTarError: the header in front of a member is not the one that was indexed.
    """
    if isinstance(file, TarCopy):
        file.read_members(members, rows, views)
        return
    if not isinstance(file, RemoteFile):
        header = bytearray(BLOCK)
        for i in np.argsort(members.offsets[rows], kind="stable").tolist():  # front to back in the file
            row = int(rows[i])
            file.read_into(int(members.offsets[row]) - BLOCK, memoryview(header), views[i])
            members.check(row, header, file.path)
        return
    view_of = {int(row): view for row, view in zip(rows, views, strict=True)}

    def sink(row: int, at: int, data: memoryview) -> None:
        view_of[row][at : at + len(data)] = data

    for _ in _fetch(file, members, rows, sink):
        pass


class TarCopy:
    """The sparse copy of a remote tar, and the tar itself, from which comes what the copy no longer has.

    Attributes:
        path: the copy.
    """

    def __init__(self, copy: Path, remote: RemoteFile, check_same: Callable[[], None]) -> None:
        """Open the copy, or make it.

        Args:
            copy: the copy.
            remote: the tar.
            check_same: raises `BadTarError` if the remote tar is not the one any more that the copy is of.
        """
        self.path = str(copy)
        self._copy, self._remote, self._check_same = copy, remote, check_same
        self._file = open_copy(copy, remote.size)

    def fetch(self, members: Members, again: bool = False) -> None:
        """Fetch what the copy does not have of some members; see `fetch_members`.

        Raises:
            BadTarError: the remote tar was replaced. The copy is removed: it may be of both.
        """
        with self._of_one_tar():
            fetch_members(self._remote, self._copy, members, again)
        self._file = open_copy(self._copy, self._remote.size)  # another process may have removed the one before

    def read_members(self, members: Members, rows: Int64s, views: list[memoryview]) -> None:
        """Read and prove the data of some members; those that are not what was fetched are fetched again."""
        block, bad = bytearray(BLOCK), list[int]()
        for i in np.argsort(members.offsets[rows], kind="stable").tolist():  # front to back in the file
            row = int(rows[i])
            try:
                self._file.read_into(int(members.offsets[row]) - BLOCK, memoryview(block), views[i])
            except NewsCLIPpingsError:  # the copy was cut off or replaced, or the disk does not give it back
                bad.append(i)
                continue
            if block != record(members, row, xxhash.xxh3_128_digest(views[i])):
                bad.append(i)
        if bad:
            again, into = rows[np.array(bad)], [views[i] for i in bad]
            with self._of_one_tar():
                read_members(self._remote, members, again, into)
            with contextlib.suppress(OSError):  # else the next one fetches them again
                _write_members(self._copy, members, again, into)

    def stretch(self, members: Members) -> "ProvedStretch":
        """The only one of some members as a file, with the places that it has in the tar.

        Raises:
            BadFileError: what was fetched does not stay on the disk.
        """
        for _ in range(2):
            stretch = ProvedStretch(self._file, self._remote, int(members.offsets[0]), int(members.sizes[0]))
            if self._file.read_at(stretch.start - BLOCK, BLOCK) == record(members, 0, stretch.digest):
                return stretch
            self.fetch(members, again=True)
        found = "other bytes on the disk than were written to it"
        raise bad_file(self.path, f"{members.names[0]} as it was fetched", found, "Check the disk, or choose another.")

    @contextlib.contextmanager
    def _of_one_tar(self) -> Iterator[None]:
        try:
            yield
            self._check_same()
        except BadTarError:  # what was fetched may be of both, and look right
            self._copy.unlink(missing_ok=True)
            raise


class ProvedStretch:
    """A stretch of the copy that is read at random: its pieces are what they were when the whole was proved."""

    def __init__(self, file: LocalFile, remote: RemoteFile, start: int, size: int) -> None:
        """Read it once; `digest` is its XXH3-128 then."""
        self.path, self.size, self.start = file.path, file.size, start
        self._file, self._remote, self._stop = file, remote, start + size
        whole, sums = xxhash.xxh3_128(), list[int]()
        for low in range(start, self._stop, 64 * PROVED):
            data = memoryview(file.read_at(low, min(64 * PROVED, self._stop - low)))
            whole.update(data)
            sums += [xxhash.xxh3_64_intdigest(data[k : k + PROVED]) for k in range(0, len(data), PROVED)]
        self.digest, self._sums = whole.digest(), np.array(sums, np.uint64)

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from a byte of the tar on; fewer at the end of the stretch."""
        first, stop = (offset - self.start) // PROVED, min(offset + length, self._stop)
        if stop <= offset:
            return b""
        low = self.start + first * PROVED
        high = min(self.start - (self.start - stop) // PROVED * PROVED, self._stop)
        data = b""
        with contextlib.suppress(NewsCLIPpingsError):  # the copy is gone, or the disk does not give it back
            data = self._file.read_at(low, high - low)
        if not self._is_right(first, data, high - low):  # damaged since then
            data = self._remote.read_at(low, high - low)
            if not self._is_right(first, data, high - low):
                found = f"other bytes at byte {low:,}, there and on the server"
                raise bad_file(self.path, "what was fetched", found, "Load it again.")
        return data[offset - low : stop - low]

    def _is_right(self, first: int, data: bytes, length: int) -> bool:
        view = memoryview(data)
        sums = (xxhash.xxh3_64_intdigest(view[k : k + PROVED]) for k in range(0, length, PROVED))
        return len(data) == length and all(found == self._sums[first + k] for k, found in enumerate(sums))

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, from a byte of the tar on."""
        for buffer in buffers:
            buffer[:] = self.read_at(offset, len(buffer))
            offset += len(buffer)

    def hop_reader(self) -> Callable[[int, int], bytes]:
        """As `RandomFile`: nothing is read ahead."""
        return self.read_at


def other_tar(index: str, tar: str, expected: str, found: str) -> BadTarError:
    """The error of a tar that is not the one that was indexed."""
    return BadTarError(
        f"{index} is not the index of {tar}: expected {expected}, found {found}. The tar is another version, or was "
        "replaced: make an index of this one (`newsclippings index`), or leave visual_news_index out."
    )


def record(members: Members, k: int, digest: bytes) -> bytes:
    """What the copy has in the place of the header of the k-th member, whose data have an XXH3-128."""
    about = _RECORD.pack(_MAGIC, int(members.crcs[k]), int(members.sizes[k]), digest)
    return (about + xxhash.xxh3_64_digest(about)).ljust(BLOCK, b"\0")


def fetch_members(file: RemoteFile, copy: Path, members: Members, again: bool = False) -> None:
    """Fetch what a sparse local copy of a remote tar does not have of some members.

    Args:
        file: the tar.
        copy: the copy.
        members: what is needed.
        again: fetch what the copy seems to have as well.

    Raises:
        BadTarError: as `read_members`.
        NoSpaceError: the disk is too small.
        RemoteReadError: the server does not answer; what was fetched by then stays.
    """
    open_copy(copy, file.size).close()
    with report_full_disk(copy.parent), _open_to_write(copy) as descriptor:
        _fetch_into(descriptor, copy, file, members, again)


def _fetch_into(descriptor: int, copy: Path, file: RemoteFile, members: Members, again: bool) -> None:
    rows = np.flatnonzero([again or not _is_there(descriptor, members, k) for k in range(len(members.offsets))])
    needed = int(members.sizes[rows].sum()) + BLOCK * len(rows)
    check_space(copy.parent, needed, "what has to be fetched", ELSEWHERE)
    hashes: dict[int, xxhash.xxh3_128] = {}

    def sink(row: int, at: int, data: memoryview) -> None:
        hashes.setdefault(row, xxhash.xxh3_128()).update(data)  # the pieces of a member come in their order
        _write(descriptor, data, int(members.offsets[row]) + at)

    with tqdm(
        total=needed,
        desc=f"Fetching from {printable(os.path.basename(file.path))}",
        unit="B",
        unit_scale=True,
        disable=None,
    ) as bar:
        records: list[tuple[int, bytes]] = []
        unsafe = 0
        try:
            for row in _fetch(file, members, rows, sink):
                digest = hashes.pop(row, xxhash.xxh3_128()).digest()
                records.append((int(members.offsets[row]) - BLOCK, record(members, row, digest)))
                unsafe += int(members.sizes[row]) + BLOCK
                bar.update(int(members.sizes[row]) + BLOCK)
                if unsafe >= BATCH:
                    _commit(descriptor, records)
                    unsafe = 0
        finally:  # what was fetched until something went wrong stays
            _commit(descriptor, records)


def _is_there(descriptor: int, members: Members, k: int) -> bool:
    """Whether a copy has the record of the k-th member. Whether its data match is seen when they are read."""
    with contextlib.suppress(OSError):  # a bad sector: what is written there may go to another
        block = os.pread(descriptor, BLOCK, int(members.offsets[k]) - BLOCK)
        return block == record(members, k, block[_RECORD.size - 16 : _RECORD.size].ljust(16, b"\0"))
    return False


def _write_members(copy: Path, members: Members, rows: Int64s, views: list[memoryview]) -> None:
    """Write members whose data are known to a copy."""
    with _open_to_write(copy) as descriptor:
        for row, view in zip(rows.tolist(), views, strict=True):
            _write(descriptor, view, int(members.offsets[row]))
        places = (members.offsets[rows] - BLOCK).tolist()
        digests = map(xxhash.xxh3_128_digest, views)
        known = [record(members, row, digest) for row, digest in zip(rows.tolist(), digests, strict=True)]
        _commit(descriptor, list(zip(places, known, strict=True)))


def open_copy(copy: Path, size: int) -> LocalFile:
    """Open a sparse copy for reading; it is made, all of it a hole, when there is none.

    Raises:
        NoSpaceError: the disk is full.
        ConfigError: it cannot be made for another reason, or something else is in its place.
    """
    with report_full_disk(copy.parent):
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with _open_to_write(copy, os.O_CREAT) as descriptor:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise _no_copy(copy, "something that is no file is there")
                if status.st_size != size:
                    extend(descriptor, size)
        except OSError as error:
            if is_full(error):
                raise
            why = "a link is there" if os.path.islink(copy) else error.strerror or type(error).__name__
            raise _no_copy(copy, why) from None
    return LocalFile(str(copy), at_rest=False)  # other processes may write to it


def _no_copy(copy: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{copy}: what is fetched of a remote tar cannot be kept there ({why}). Remove what is there, or point "
        "cache_dir= or HF_DATASETS_CACHE to a folder of your own."
    )


@contextlib.contextmanager
def _open_to_write(copy: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of a copy, and of no file that a link there leads to."""
    flags |= os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(copy, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _commit(descriptor: int, records: list[tuple[int, bytes]]) -> None:
    """Write the records of members whose data are on the disk: from now on they count."""
    whole = records.copy()
    records.clear()  # first: a second try of what failed here would not fail, though data are lost
    flush(descriptor)
    for offset, block in whole:
        _write(descriptor, memoryview(block), offset)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of it: a disk that becomes full takes a part without an error."""
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _fetch(file: RemoteFile, members: Members, rows: Int64s, sink: Sink) -> Iterator[int]:
    """Give the data of some members to a sink, piece by piece; yields each member that is complete."""
    rows = rows[np.argsort(members.offsets[rows], kind="stable")]
    starts, stops = members.offsets[rows] - BLOCK, members.offsets[rows] + members.sizes[rows]
    plan = list(_requests(starts, stops))
    reads = file.read_ranges([(start, stop) for start, stop, _, _ in plan])
    for ((start, stop), data), (_, _, first, last) in zip(reads, plan, strict=True):
        view = memoryview(data)
        for k in range(first, last):
            row, body = int(rows[k]), int(starts[k]) + BLOCK
            if starts[k] >= start:
                members.check(row, view[int(starts[k]) - start : body - start], file.path)
            low, high = max(body, start), min(int(stops[k]), stop)
            if low < high:
                sink(row, low - body, view[low - start : high - start])
            if stops[k] <= stop:
                yield row


def _requests(starts: Int64s, stops: Int64s) -> Iterator[tuple[int, int, int, int]]:
    """Ranges that cover sorted members: first byte, one after the last, first member, one after the last.

    Neighbours share a range as long as it is not too long and little of it is of no use. A long member has several.
    """
    first = 0
    while first < len(starts):
        start, stop, useless, last = int(starts[first]), int(stops[first]), 0, first + 1
        if stop - start > PIECE:
            for low, high in pieces(start, stop):
                yield low, high, first, last
        else:
            while last < len(starts):
                gap, end = int(starts[last]) - stop, int(stops[last])
                if end - start > PIECE or (gap > NEXT and useless + gap > WASTE * (end - start)):
                    break
                stop, useless, last = max(stop, end), useless + (gap if gap > NEXT else 0), last + 1
            yield start, stop, first, last
        first = last
