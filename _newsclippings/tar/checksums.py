"""CRC-32 of the data of each member: computed when a tar is indexed with `--checksums`, compared by `verify`."""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import BadFileError
from _newsclippings.storage import RandomFile, is_remote, open_table, progress_bar, split_range, write_kept
from _newsclippings.tables import Int64s, as_array, values_of
from _newsclippings.tar.headers import BLOCK
from _newsclippings.text import printable

DATA_CRC = pa.field("data_crc", pa.uint32())  # CRC-32 of the data of a member
GROUP = (
    1 << 30
)  # bytes of the tar whose members are kept together; at most so many are read again after an interruption
AT_ONCE = 4 << 20  # bytes of a local tar that are read at a time
Uint32s = npt.NDArray[np.uint32]


def add_checksums(file: RandomFile, members: pa.Table, parts: Path | None) -> pa.Table:
    """Add the column `DATA_CRC` to an index. The whole tar is read, from front to back.

    Args:
        file: the tar.
        members: the index.
        parts: folder for finished groups of members, from which an interrupted call continues; None keeps none.
    """
    offsets, rows, inverse = np.unique(values_of(members["offset"]), return_index=True, return_inverse=True)
    sizes = values_of(members["size"])[rows]  # a link has the place of its target
    sums = [np.empty(0, np.uint32)]
    with _show_progress(file) as bar:
        for group in np.split(np.arange(len(offsets)), np.flatnonzero(np.diff(offsets // GROUP)) + 1):
            first, stop = int(offsets[group[0]]), int((offsets[group] + sizes[group]).max())
            kept = parts / f"crc-{first}-{stop}.arrow" if parts else None
            known = _load(kept, len(group)) if kept else None
            if known is None:
                read = list(_sum_members(file, offsets[group], sizes[group], bar.update))
                known = np.array([data for _, data in read], np.uint32)
                _keep(kept, known)
            else:
                bar.update(stop - first)
            sums.append(known)
    return members.append_column(DATA_CRC, as_array(np.concatenate(sums)[inverse]))


def find_damaged_members(file: RandomFile, members: pa.Table) -> Int64s:
    """Read a whole tar, and return the rows of an index whose headers or data are not what was indexed.

    Args:
        file: the tar.
        members: its index, with `DATA_CRC`.
    """
    offsets, rows = np.unique(values_of(members["offset"]), return_index=True)
    known = np.stack([values_of(members[name])[rows] for name in ("header_crc", DATA_CRC.name)], 1)
    found = np.full(known.shape, -1, np.int64)
    with _show_progress(file) as bar:
        for k, pair in enumerate(_sum_members(file, offsets, values_of(members["size"])[rows], bar.update)):
            found[k] = pair
    return np.sort(rows[(found != known).any(1)])


def _show_progress(file: RandomFile) -> Any:
    what = f"Reading {printable(os.path.basename(file.path))}"
    return progress_bar(total=file.size, desc=what, unit="B", unit_scale=True)


def _sum_members(
    file: RandomFile, offsets: Int64s, sizes: Int64s, advance: Callable[[int], object]
) -> Iterator[tuple[int, int]]:
    """Yield the CRC-32 of the header and of the data of members, until the file ends.

    Args:
        file: the tar.
        offsets: int64 (N,), bytes at which the data of members begin, sorted.
        sizes: int64 (N,), bytes of the data.
        advance: called with the number of bytes after each read.
    """
    places = zip(offsets.tolist(), (offsets + sizes).tolist(), strict=True)
    offset, stop = next(places, (0, 0))
    header = data = 0
    for low, piece in _read_pieces(file, int(offsets[0]) - BLOCK, int((offsets + sizes).max())):
        view, high = memoryview(piece), low + len(piece)
        advance(len(piece))
        while stop >= offset > 0:
            header = zlib.crc32(view[max(offset - BLOCK - low, 0) : max(offset - low, 0)], header)
            data = zlib.crc32(view[max(offset - low, 0) : max(stop - low, 0)], data)
            if stop > high:
                break
            yield header, data
            offset, stop = next(places, (0, 0))
            header = data = 0


def _read_pieces(file: RandomFile, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    if is_remote(file):
        for (low, _), data in file.read_ranges(split_range(start, min(stop, file.size))):
            yield low, data
        return
    for low in range(start, stop, AT_ONCE):
        data = file.read_at(low, min(AT_ONCE, stop - low))
        yield low, data
        if len(data) < min(AT_ONCE, stop - low):
            return


def _load(kept: Path, count: int) -> Uint32s | None:
    opened = open_table(kept, f"{kept.parent.name}/{kept.name}")
    if opened is None or not opened.table.schema.equals(pa.schema([DATA_CRC])) or len(opened.table) != count:
        return None
    known: Uint32s = np.array(values_of(opened.table[DATA_CRC.name]), np.uint32)
    return known


def _keep(kept: Path | None, sums: Uint32s) -> None:
    if kept is None:
        return
    with contextlib.suppress(OSError, BadFileError):  # if it cannot be kept, an interrupted call reads it again
        kept.parent.mkdir(parents=True, exist_ok=True)
        schema = pa.schema([DATA_CRC])
        with (
            write_kept(kept, f"{kept.parent.name}/{kept.name}") as temporary,
            pa.ipc.new_file(temporary, schema) as out,
        ):
            out.write_table(pa.table([as_array(sums)], schema=schema))
