"""Members of a tar, read at their places: each header is compared with the index, so that no other tar is read.

Members of a remote tar are fetched by range, neighbouring ones with one request. What a build needs is kept in a sparse
local copy of the tar, in which every member lies where it lies in the remote one; the header is written last, so that
a member with a right header is whole, and an interrupted build goes on where it was.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm.auto import tqdm

from _newsclippings.arrow import Int64s, one_chunk
from _newsclippings.disk import ELSEWHERE, full_disk_told
from _newsclippings.errors import bad_tar, disk_full, other_tar
from _newsclippings.local_file import LocalFile, RandomFile
from _newsclippings.remote import PIECE, RemoteFile, pieces
from _newsclippings.tar_headers import BLOCK, is_header_of
from _newsclippings.tar_index import TarIndex

WASTE = 1 / 16  # of a request: bytes between members that are fetched to save another request
NEXT = 2048  # bytes between members that are next to each other: padding, and a header for a long name
BATCH = 64 << 20  # bytes that are written to the disk before their headers are


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
        table = index.members.take(pa.array(rows))
        offsets, sizes, crcs = (np.asarray(table[name]) for name in ("offset", "size", "header_crc"))
        return cls(one_chunk(table["name"]), offsets, sizes, crcs, index.location, index.kept)

    def some(self, rows: Int64s) -> "Members":
        """Some of them."""
        names = self.names.take(pa.array(rows))
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
            raise bad_tar(tar, expected, "another there")


Sink = Callable[[int, int, memoryview], None]  # takes the bytes of the k-th from one of its bytes on


def read_members(file: RandomFile, members: Members, rows: Int64s, views: list[memoryview]) -> None:
    """Read the data of some members into buffers of their sizes, each member once.

    Raises:
        BadTarError: the header in front of a member is not the one that was indexed.
    """
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


def fetch_members(file: RemoteFile, copy: Path, members: Members) -> None:
    """Fetch what a sparse local copy of a remote tar does not have of some members.

    Raises:
        BadTarError: as `read_members`.
        ConfigError: the disk is too small.
        DataNotFoundError: the server does not answer; what was fetched by then stays.
    """
    with full_disk_told(copy.parent):
        open_copy(copy, file.size).close()
        _fetch_into(copy, file, members)


def _fetch_into(copy: Path, file: RemoteFile, members: Members) -> None:
    descriptor = os.open(copy, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        rows = np.flatnonzero([
            zlib.crc32(os.pread(descriptor, BLOCK, offset - BLOCK)) != crc
            for offset, crc in zip(members.offsets.tolist(), members.crcs.tolist(), strict=True)
        ])  # fmt: skip
        needed, free = int(members.sizes[rows].sum()) + BLOCK * len(rows), shutil.disk_usage(copy.parent).free
        if needed > free:
            raise disk_full(copy.parent, needed, free, "what has to be fetched", ELSEWHERE)

        def sink(row: int, at: int, data: memoryview) -> None:
            _write(descriptor, data, int(members.offsets[row]) + at)

        with tqdm(
            total=needed, desc=f"Fetching from {os.path.basename(file.path)}", unit="B", unit_scale=True, disable=None
        ) as bar:
            headers: list[tuple[int, bytes]] = []
            unsafe = 0
            try:
                for row, header in _fetch(file, members, rows, sink):
                    headers.append((int(members.offsets[row]) - BLOCK, header))
                    unsafe += int(members.sizes[row]) + BLOCK
                    bar.update(int(members.sizes[row]) + BLOCK)
                    if unsafe >= BATCH:
                        _commit(descriptor, headers)
                        unsafe = 0
            finally:  # what was fetched until something went wrong stays
                _commit(descriptor, headers)
    finally:
        os.close(descriptor)


def open_copy(copy: Path, size: int) -> LocalFile:
    """Open a sparse copy for reading; it is made, all of it a hole, when there is none."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(copy, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
    return LocalFile(str(copy), at_rest=False)  # other processes may write to it


def _commit(descriptor: int, headers: list[tuple[int, bytes]]) -> None:
    """Write the headers of members whose data are on the disk: from now on they count."""
    whole = headers.copy()
    headers.clear()  # first: a second try of what failed here would not fail, though data are lost
    os.fsync(descriptor)
    for offset, header in whole:
        _write(descriptor, memoryview(header), offset)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of it: a disk that becomes full takes a part without an error."""
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _fetch(file: RemoteFile, members: Members, rows: Int64s, sink: Sink) -> Iterator[tuple[int, bytes]]:
    """Give the data of some members to a sink, piece by piece; yields each member that is complete, and its header."""
    rows = rows[np.argsort(members.offsets[rows], kind="stable")]
    starts, stops = members.offsets[rows] - BLOCK, members.offsets[rows] + members.sizes[rows]
    plan = list(_requests(starts, stops))
    headers: dict[int, bytes] = {}
    reads = file.read_ranges([(start, stop) for start, stop, _, _ in plan])
    for ((start, stop), data), (_, _, first, last) in zip(reads, plan, strict=True):
        view = memoryview(data)
        for k in range(first, last):
            row, body = int(rows[k]), int(starts[k]) + BLOCK
            if starts[k] >= start:
                headers[k] = bytes(view[int(starts[k]) - start : body - start])
                members.check(row, headers[k], file.path)
            low, high = max(body, start), min(int(stops[k]), stop)
            if low < high:
                sink(row, low - body, view[low - start : high - start])
            if stops[k] <= stop:
                yield row, headers.pop(k)


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
