"""The fast way through a big JSON file of records: cut out the wanted ones, decode nothing else.

Record starts are found with numpy, a megabyte at a time, at about the speed of reading the file. It works for files
whose records begin with their id. Inside a JSON string a quote is always escaped, so `{"id"` cannot stand in one; what
else could be taken for a record, or hide one, is looked for, and in any doubt the answer is None.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pj

from _newsclippings.storage import DECODER, Stream
from _newsclippings.tables import Int64s, int64s, table_of

Build = Callable[[list[dict[str, Any]]], pa.Table]

BLOCK = 1 << 20  # fastest of 256 KiB to 4 MiB on 369 MB
DECODED = 1 << 16  # records that are decoded at once, for the memory
MAX_ID = 10**7  # ids from here on are left to the exact way; the largest real one is 1,686,699
_PAD = 64
_U = np.uint64
_WS = rb"[ \t\r\n]*"
_FIRST = re.compile(rb'_(?:\[_(\{_"id"_:_)\d|\{_"(\d+)"_:_(\{_"id"_:_)\2\D)'.replace(b"_", _WS))
_GAP = re.compile(rb"\}_,_".replace(b"_", _WS))
# A record of the by-id layout where it must stand: after another record, behind its own id as the key.
_KEYED = re.compile(rb'\}_,_"(\d+)"_:_\{_"id"_:_\1\D'.replace(b"_", _WS))
# What stands before a `{` that opens an object: a key's colon, a list's bracket, or a comma after a value.
_OPENS = re.compile(rb'(?:"\s*:|[:,\[]\s*\[|(?:[}\]"0-9]|true|false|null)\s*,)\s*$')


def pick_fast(stream: Stream, wanted: Int64s, schema: pa.Schema, build: Build | None = None) -> pa.Table | None:
    """The wanted records in file order, or None if not every one of them was found just once, and whole."""
    if wanted[0] < 0 or wanted[-1] >= MAX_ID:
        return None
    parts: list[bytes] = []
    ids: list[Int64s] = []
    flags = np.zeros(int(wanted[-1]) + 2, bool)
    flags[wanted] = True
    try:
        for starts, numbers, stops, buffer in _scan(stream):
            hits = np.flatnonzero(flags[np.minimum(numbers, len(flags) - 1)])
            ids.append(numbers[hits])
            parts += [bytes(buffer[i:j]) for i, j in zip(starts[hits].tolist(), stops[hits].tolist(), strict=True)]
        found = np.concatenate(ids)
        flags[found] = False
        if len(found) != len(wanted) or flags.any():
            return None
    except _NotPlainError:
        return None
    try:
        table = _decode(parts, schema, build)
    except (ValueError, TypeError, RecursionError, pa.ArrowException):
        return None
    whole = not any(table[name].null_count for name in schema.names)
    return table if whole and np.array_equal(int64s(table["id"]), found) else None


def _decode(parts: list[bytes], schema: pa.Schema, build: Build | None) -> pa.Table:
    """Records as a table; any of the usual errors where one is no such record."""
    if build:
        return build([_record(part) for part in parts])
    tables = []
    for start in range(0, len(parts), DECODED):
        some = parts[start : start + DECODED]
        lines = b"\n".join(some)
        if lines.count(b"\n") >= len(some) or b"\r" in lines:  # Arrow takes a line for a record
            tables.append(table_of([_record(part) for part in some], schema))
            continue
        table = pj.read_json(
            pa.BufferReader(lines),
            pj.ReadOptions(block_size=max(BLOCK, 2 * max(map(len, some)))),
            pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        table.validate(full=True)
        tables.append(table)
    return pa.concat_tables(tables)


def _record(part: bytes) -> dict[str, Any]:
    record: dict[str, Any] = DECODER.decode(part.decode())
    if type(record.get("id")) is not int:  # Arrow would make one of 1.0
        raise ValueError
    return record


class _NotPlainError(Exception):
    """The file is not in the layout that the fast way can prove."""


def _scan(stream: Stream) -> Iterator[tuple[Int64s, Int64s, Int64s, memoryview]]:
    """Yield, block by block: start, id and end of each whole record in it, and the block itself.

    Raises:
        _NotPlainError: the file is in another layout, or in one that cannot be proven.
    """
    buffer = bytearray(BLOCK + _PAD)
    view, array = memoryview(buffer), np.frombuffer(buffer, np.uint8)
    words = np.lib.stride_tricks.as_strided(array[:8].view("<u8"), shape=(BLOCK + _PAD - 8,), strides=(1,))
    end = _fill(stream, view[:BLOCK])
    head = _FIRST.match(buffer[:end])
    if head is None:
        raise _NotPlainError
    prefix, is_list, start = head[1] or head[3], head[1] is not None, head.start(1) if head[1] else head.start(3)
    gap: bytes | None = None
    first = True
    while True:
        last = end < BLOCK
        array[end : end + 32] = 0
        braces = np.flatnonzero(array[: end if last else end - 2 * len(prefix) - 16] == ord("{"))
        is_start = _equal_at(words, braces, prefix)
        starts = braces[is_start]
        if not len(starts) or (starts[0] != 0 and not first):
            raise _NotPlainError
        if is_list and gap is None and len(starts) > 1:
            gap = bytes(buffer[buffer.rfind(b"}", 0, starts[1]) : starts[1]])
            if not _GAP.fullmatch(gap):
                raise _NotPlainError
        _prove(buffer, starts[1:], braces[~is_start], gap if is_list else None, start if first else 0)
        numbers = _numbers(words, starts + len(prefix))
        stops = starts[1:] - (len(gap) - 1 if gap else 0)
        if not is_list:
            stops = np.array([buffer.rfind(b"}", 0, s) + 1 for s in starts[1:].tolist()], np.int64)
        if last:
            tail = bytes(buffer[int(starts[-1]) : end]).rstrip(b" \t\r\n")
            if tail[-1:] != (b"]" if is_list else b"}"):
                raise _NotPlainError
            whole = tail[:-1].rstrip(b" \t\r\n")
            try:  # or the file ends behind another record's closing brace
                DECODER.decode(whole.decode())
            except (ValueError, RecursionError):
                raise _NotPlainError from None
            stops = np.append(stops, starts[-1] + len(whole))
            yield starts, numbers, stops, view
            return
        yield starts[:-1], numbers[:-1], stops, view
        keep = int(starts[-1])  # the unfinished last record moves to the front
        if keep == 0:
            raise _NotPlainError  # a record larger than a block
        view[: end - keep] = bytes(view[keep:end])
        end = end - keep + _fill(stream, view[end - keep : BLOCK])
        first = False


def _fill(stream: Stream, view: memoryview) -> int:
    got = 0
    while got < len(view) and (n := stream.readinto(view[got:])):
        got += n
    return got


def _equal_at(words: npt.NDArray[np.uint64], positions: Int64s, text: bytes) -> npt.NDArray[np.bool_]:
    """Where `text` (up to 16 bytes) stands at the positions of a byte buffer, seen as overlapping 8-byte words."""
    if len(text) > 16:
        raise _NotPlainError
    equal: npt.NDArray[np.bool_] = np.ones(len(positions), bool)
    for k in {0, max(0, len(text) - 8)}:
        piece = text[k : k + 8]
        mask = _U((1 << 8 * len(piece)) - 1)
        equal &= (words[positions + k] & mask) == _U(int.from_bytes(piece, "little"))
    return equal


def _prove(buffer: bytearray, starts: Int64s, others: Int64s, gap: bytes | None, skip: int) -> None:
    """Make sure that each start begins a record and that no other brace opens an object.

    An object inside a record is the first one there (then a colon, bracket or comma stands before its brace, and not
    the gap between records) or follows one that was already noticed.
    """
    if gap is not None:
        array = np.frombuffer(buffer, np.uint8)
        for k, byte in enumerate(reversed(gap), 1):
            if (array[starts - k] != byte).any():
                raise _NotPlainError
    for position in others[others >= skip].tolist():
        if _OPENS.search(buffer[max(0, position - 40) : position]):
            raise _NotPlainError
    if gap is None:
        for position in starts.tolist():
            if not _KEYED.search(buffer[max(0, position - 40) : position + 40]):
                raise _NotPlainError


def _numbers(words: npt.NDArray[np.uint64], positions: Int64s) -> Int64s:
    """Decimal numbers of up to seven digits that start at the positions, eight bytes at a time."""
    digits = words[positions] ^ _U(0x3030303030303030)
    others = ((digits + _U(0x7676767676767676)) | digits) & _U(0x8080808080808080)  # high bit: not a digit
    lowest = others & (~others + _U(1))
    count = np.searchsorted(_HIGH_BITS, lowest).astype(np.uint64)
    if (lowest == 0).any() or (count == 0).any():
        raise _NotPlainError  # eight digits or more, or none
    value = digits << ((_U(8) - count) * _U(8))
    value = value * _U(10) + (value >> _U(8))
    low, high = value & _U(0xFF000000FF), (value >> _U(16)) & _U(0xFF000000FF)
    value = (low * _U(0xF424000000064) + high * _U(0x271000000001)) >> _U(32)
    result: Int64s = (value & _U(0xFFFFFFFF)).astype(np.int64)
    return result


_HIGH_BITS = np.array([0x80 << 8 * k for k in range(8)], np.uint64)
