"""Pick the records of wanted ids out of a big JSON file, in bounded memory.

Two layouts: a list of records (`[{"id": 1, ...}, ...]`, data.json) and a table of them by id
(`{"1": {"id": 1, ...}, ...}`, metadata). The fast way finds record starts with numpy and decodes only the wanted
records; it needs records that begin with their id, proves that nothing else in the file could be taken for one, and
gives up in any doubt. The exact way decodes every record and is the one that explains what is wrong with a file.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pj

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.files import check_json_head
from _newsclippings.strict_json import DECODER

Int64s = npt.NDArray[np.int64]

BLOCK = 1 << 20  # fastest of 256 KiB to 4 MiB on 369 MB
MAX_RECORD = 1 << 22  # characters; the longest real record has a few thousand
MAX_ID = 10**7  # of the fast way; the largest real id is 1,686,699
_PAD = 64
_START = re.compile(rb'\s*(?:\[|\{\s*"\d+"\s*:)\s*(\{\s*"id"\s*:\s*)\d')
_U = np.uint64
# What stands before a `{` that opens an object: a key's colon, a list's bracket, or a comma after a value.
_OPENS = re.compile(rb'(?:"\s*:|[:,\[]\s*\[|(?:[}\]"0-9]|true|false|null)\s*,)\s*$')


def pick_records(open_file: Callable[[], BinaryIO], location: str, wanted: Int64s, schema: pa.Schema) -> pa.Table:
    """Read the records whose id is wanted.

    Args:
        open_file: opens the file anew, for reading bytes from its start.
        location: what to call it in errors.
        wanted: ids, sorted and unique.
        schema: the fields to keep, `id` (int64) first; the others are strings that every wanted record must have.

    Returns:
        Arrow table of `schema`, sorted by id; an id that the file does not have has no row.

    Raises:
        BadFileError: the file is not JSON in one of the two layouts, ends early, has an id twice, or a wanted record
            lacks a field.
    """
    if not len(wanted):
        return schema.empty_table()
    with open_file() as stream:
        table = _pick_fast(stream, wanted, schema)
    if table is None:
        with open_file() as stream:
            table = _pick_exact(stream, location, wanted, schema)
    order = np.argsort(int64s(table["id"]), kind="stable")
    return table if (np.diff(order) == 1).all() else table.take(pa.array(order))


def int64s(column: pa.ChunkedArray) -> Int64s:
    """A null-free int64 column as numpy, without a copy where it is one chunk (`to_numpy` would import pandas)."""
    chunks = [np.frombuffer(c.buffers()[1], np.int64, len(c), c.offset * 8) for c in column.chunks if len(c)]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.int64), *chunks])


# ---------------------------------------------------------------------------------------------------- the fast way


def _pick_fast(stream: BinaryIO, wanted: Int64s, schema: pa.Schema) -> pa.Table | None:
    parts: list[bytes] = []
    ids: list[Int64s] = []
    small = wanted[(wanted >= 0) & (wanted < MAX_ID)]  # a file with other ids is none for the fast way
    flags = np.zeros(int(small[-1]) + 2 if len(small) else 1, bool)
    flags[small] = True
    try:
        for starts, numbers, stops, buffer in _scan(stream):
            hits = np.flatnonzero(flags[np.minimum(numbers, len(flags) - 1)])
            ids.append(numbers[hits])
            parts += [bytes(buffer[i:j]) for i, j in zip(starts[hits].tolist(), stops[hits].tolist(), strict=True)]
        if not parts:
            return schema.empty_table()
        # Line breaks stand between tokens only (inside a string JSON escapes them), and Arrow reads a record a line.
        lines = b"\n".join(p.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in p else p for p in parts)
        table = pj.read_json(
            pa.BufferReader(lines),
            pj.ReadOptions(block_size=max(BLOCK, 2 * max(map(len, parts)))),
            pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        table.validate(full=True)
    except (_NotPlainError, pa.ArrowInvalid):
        return None
    found = np.concatenate(ids)
    if any(table[name].null_count for name in schema.names) or not np.array_equal(int64s(table["id"]), found):
        return None
    flags[found] = False  # every wanted id at most once: as many flags went out as records were found
    return table if np.count_nonzero(flags) == len(small) - len(found) else None


class _NotPlainError(Exception):
    """The file is not in the layout that the fast way can prove."""


def _scan(stream: BinaryIO) -> Iterator[tuple[Int64s, Int64s, Int64s, memoryview]]:
    """Yield, block by block: start, id and end of each whole record, and the buffer that they lie in."""
    buffer = bytearray(BLOCK + _PAD)
    view, array = memoryview(buffer), np.frombuffer(buffer, np.uint8)
    words = np.lib.stride_tricks.as_strided(array[:8].view("<u8"), shape=(BLOCK + _PAD - 8,), strides=(1,))
    end = _fill(stream, view[:BLOCK])
    head = _START.match(buffer[:end])
    if head is None:
        raise _NotPlainError
    prefix, is_list = head[1], head[0].lstrip()[:1] == b"["
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
        _prove(buffer, starts[1:], braces[~is_start], gap if is_list else None, head.start(1) if first else 0)
        numbers = _numbers(words, starts + len(prefix))
        stops = starts[1:] - (len(gap) - 1 if gap else 0)
        if not is_list:
            stops = np.array([buffer.rfind(b"}", 0, s) + 1 for s in starts[1:].tolist()], np.int64)
        if last:
            tail = bytes(buffer[int(starts[-1]) : end]).rstrip()
            if tail[-1:] != (b"]" if is_list else b"}"):
                raise _NotPlainError
            stops = np.append(stops, starts[-1] + len(tail[:-1].rstrip()))
            yield starts, numbers, stops, view
            return
        yield starts[:-1], numbers[:-1], stops, view
        keep = int(starts[-1])  # the unfinished last record moves to the front
        if keep == 0:
            raise _NotPlainError  # a record larger than a block
        view[: end - keep] = bytes(view[keep:end])
        end = end - keep + _fill(stream, view[end - keep : BLOCK])
        first = False


def _fill(stream: BinaryIO, view: memoryview) -> int:
    got = 0
    while got < len(view) and (n := stream.readinto(view[got:])):  # type: ignore[attr-defined]  # raw and fsspec have it
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


# A record of the by-id layout where it must stand: after another record, behind its own id as the key.
_KEYED = re.compile(rb'\}\s*,\s*"(\d+)"\s*:\s*\{\s*"id"\s*:\s*\1\D')


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


# --------------------------------------------------------------------------------------------------- the exact way


def _pick_exact(stream: BinaryIO, location: str, wanted: Int64s, schema: pa.Schema) -> pa.Table:
    kept: dict[int, dict[str, Any]] = {}
    ids = set(wanted.tolist())
    for number, record in enumerate(walk_records(stream, location)):
        place = f"{location}: record {number}"
        record_id = record.get("id")
        if type(record_id) is not int:
            raise bad_file(place, "an integer id", repr(record_id)[:60])
        if record_id not in ids:
            continue
        if record_id in kept:
            raise bad_file(f"{place} (id {record_id})", "each id once", "the id a second time")
        for name in schema.names[1:]:
            value = record.get(name)
            if not isinstance(value, str):
                found = repr(value)[:60] if name in record else "no such key"
                raise bad_file(f"{place} (id {record_id})", f"a string as {name}", found)
            if not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value):
                raise bad_file(f"{place} (id {record_id})", f"Unicode text as {name}", "a lone surrogate")
        kept[record_id] = record
    return pa.Table.from_pylist(list(kept.values()), schema)


def walk_records(stream: BinaryIO, location: str) -> Iterator[dict[str, Any]]:
    """Decode a list of records, or a table of records by id, one by one, in constant memory.

    Raises:
        BadFileError: naming record and byte, where the file is not JSON in one of these layouts.
    """
    text = _Text(stream, location)
    opening = text.next_token()
    if opening not in ("[", "{"):
        raise text.bad("a list of records, or a table of them by id", repr(opening) if opening else "an empty file")
    text.pos += 1
    closing = "]" if opening == "[" else "}"
    if text.next_token() == closing:
        raise text.bad("records", "none")
    while True:
        key = None
        if opening == "{":
            key = text.decode()
            if text.next_token() != ":":
                raise text.bad("':' after a key", repr(text.next_token()))
            text.pos += 1
        record = text.decode()
        if not isinstance(record, dict):
            raise text.bad("a record ({...})", repr(record)[:60])
        if key is not None and key != str(record.get("id")):
            raise text.bad(f"the record of id {key!r}", f"that of {record.get('id')!r}")
        yield record
        text.record += 1
        token = text.next_token()
        text.pos += 1
        if token == closing:
            break
        if token != ",":
            raise text.bad(f"',' or '{closing}'", repr(token) if token else "the end of the file (truncated)")
    if rest := text.next_token():
        raise text.bad("the end of the file", repr(rest))


class _Text:
    """A window that slides over the text of a file, and knows where it is."""

    def __init__(self, stream: BinaryIO, location: str) -> None:
        self.stream, self.location = stream, location
        self.utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self.window, self.pos, self.before, self.record, self.ended = "", 0, 0, 0, False

    def bad(self, expected: str, found: str) -> BadFileError:
        """An error that says where in the file."""
        byte = self.before + len(self.window[: self.pos].encode("utf-8", "surrogatepass"))
        return bad_file(
            f"{self.location}: record {self.record} (near byte {byte})",
            expected,
            found,
            "Fetch the file again.",
        )

    def more(self) -> bool:
        """Drop what was read, append the next block; false at the end of the file."""
        if self.ended:
            return False
        data = self.stream.read(BLOCK)
        if self.before == 0 and not self.window:
            check_json_head(self.location, data[:64])
        self.ended = not data
        try:
            text = self.utf8.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise self.bad("UTF-8", f"other bytes ({error.reason})") from None
        self.before += len(self.window[: self.pos].encode("utf-8", "surrogatepass"))
        self.window, self.pos = self.window[self.pos :] + text, 0
        return not self.ended

    def next_token(self) -> str:
        """The next character that is no white space, not consumed; empty at the end of the file."""
        while True:
            while self.pos < len(self.window):
                if self.window[self.pos] not in " \t\n\r":
                    return self.window[self.pos]
                self.pos += 1
            if not self.more():
                return ""

    def decode(self) -> Any:
        """The JSON value that starts at the next token."""
        if not self.next_token():
            raise self.bad("a value", "the end of the file (truncated)")
        while True:
            try:
                value, end = DECODER.raw_decode(self.window, self.pos)
                if end < len(self.window) or not self.more():
                    self.pos = end
                    return value
            except RecursionError:
                raise self.bad("a flat record", "one that is nested too deeply") from None
            except ValueError as error:
                if len(self.window) - self.pos > MAX_RECORD:
                    raise self.bad(f"a record of at most {MAX_RECORD} characters", str(error)) from None
                if not self.more():
                    cut = isinstance(error, json.JSONDecodeError) and error.pos >= len(self.window.rstrip())
                    cut = cut or "Unterminated" in str(error)
                    raise self.bad("JSON", "the end of the file (truncated)" if cut else str(error)) from None
