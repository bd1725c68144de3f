"""Pick the records of wanted ids out of a big JSON file, in bounded memory.

Two layouts: a list of records (`[{"id": 1, ...}, ...]`, data.json) and a table of them by id
(`{"1": {"id": 1, ...}, ...}`, metadata). The fast way (fast_scan.py) decodes only the wanted records; the exact way
here decodes every record, and is the one that explains what is wrong with a file.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.corpus.fast_scan import BLOCK, Build, pick_fast
from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.storage import DECODER, TRUNCATED, Stream, check_json_head, describe_json_error, has_surrogates
from _newsclippings.tables import Int64s, as_array, empty_table, int64s, table_of

_AGAIN = "Fetch the file again."
MAX_RECORD = 1 << 22  # characters; the longest real record has a few thousand


def pick_records(
    open_file: Callable[[], Stream], location: str, wanted: Int64s, schema: pa.Schema, build: Build | None = None
) -> pa.Table:
    """Read the records whose id is wanted.

    Args:
        open_file: opens the file for reading bytes from its start; called once for each pass.
        location: what to call it in errors.
        wanted: ids, sorted and unique.
        schema: the fields to keep, `id` (int64) first; the others are strings that every wanted record must have.
        build: makes a table of decoded records, with the columns of `schema` and more. Default: just those columns.

    Returns:
        Arrow table of `schema`, sorted by id; an id that the file does not have has no row.

    Raises:
        BadFileError: the file is not JSON in one of the two layouts, ends early, has an id twice, or a wanted record
            lacks a field.
    """
    if not len(wanted):
        return build([]) if build else empty_table(schema)
    with open_file() as stream:
        table = pick_fast(stream, wanted, schema, build)
    if table is None:
        with open_file() as stream:
            table = _pick_exact(stream, location, wanted, schema, build)
    order = np.argsort(int64s(table["id"]), kind="stable")
    return table if (np.diff(order) == 1).all() else table.take(as_array(order))


def _pick_exact(stream: Stream, location: str, wanted: Int64s, schema: pa.Schema, build: Build | None) -> pa.Table:
    kept: dict[int, dict[str, Any]] = {}
    ids = set(wanted.tolist())
    for number, record in enumerate(walk_records(stream, location)):
        place = f"{location}: record {number}"
        record_id = record.get("id")
        if type(record_id) is not int:
            raise bad_file(place, "an integer id", repr(record_id)[:60], _AGAIN)
        if record_id not in ids:
            continue
        if record_id in kept:
            raise bad_file(f"{place} (id {record_id})", "each id once", "the id a second time", _AGAIN)
        for name in schema.names[1:]:
            value = record.get(name)
            if not isinstance(value, str):
                found = repr(value)[:60] if name in record else "no such key"
                raise bad_file(f"{place} (id {record_id})", f"a string as {name}", found, _AGAIN)
            if has_surrogates(value):
                raise bad_file(f"{place} (id {record_id})", f"Unicode text as {name}", "a lone surrogate", _AGAIN)
        kept[record_id] = record
    return build(list(kept.values())) if build else table_of(list(kept.values()), schema)


def walk_records(stream: Stream, location: str) -> Iterator[dict[str, Any]]:
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
            if not isinstance(key, str):
                raise text.bad("an id in quotes as key", repr(key)[:60])
            if text.next_token() != ":":
                raise text.bad("':' after a key", repr(text.next_token()))
            text.pos += 1
        record = text.decode()
        if not isinstance(record, dict):
            raise text.bad("a record ({...})", repr(record)[:60])
        if key is not None and key != str(record.get("id")):
            raise text.bad(f"the record of id {key[:60]!r}", f"that of {record.get('id')!r:.60}")
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

    def __init__(self, stream: Stream, location: str) -> None:
        self.stream, self.location = stream, location
        self.utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self.window, self.pos, self.before, self.record, self.ended = "", 0, 0, 0, False
        self.broken: UnicodeDecodeError | None = None  # what stands behind the window

    def bad(self, expected: str, found: str) -> BadFileError:
        """An error that says where in the file."""
        byte = self.before + len(self.window[: self.pos].encode("utf-8", "surrogatepass"))
        return bad_file(
            f"{self.location}: record {self.record} (near byte {byte})",
            expected,
            found,
            _AGAIN,
        )

    def more(self) -> bool:
        """Drop what was read, append the next block; false at the end of the file."""
        if self.ended:
            return False
        if self.broken is not None:
            self.pos = len(self.window)
            raise self.bad("UTF-8", f"other bytes ({self.broken.reason})")
        data = self.stream.read(BLOCK) or b""
        if self.before == 0 and not self.window:
            check_json_head(self.location, data)
        self.ended = not data
        try:
            text = self.utf8.decode(data, final=self.ended)
        except UnicodeDecodeError as error:  # what stands before is still read, to know the record
            text, self.broken, self.ended = error.object[: error.start].decode(), error, False
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
            start = self.pos
            try:
                value, end = DECODER.raw_decode(self.window, self.pos)
                if end < len(self.window) or not self.more():
                    self.pos = end
                    return value
            except RecursionError:
                raise self.bad("a flat record", "one that is nested too deeply") from None
            except ValueError as error:  # a fault, or only the end of the window
                if len(self.window) - self.pos > MAX_RECORD:
                    endless = isinstance(error, json.JSONDecodeError) and describe_json_error(error) == TRUNCATED
                    expected = f"a record of at most {MAX_RECORD:,} characters" if endless else "JSON"
                    raise self.bad(expected, "a longer one" if endless else describe_json_error(error, start)) from None
                if not self.more():
                    raise self.bad("JSON", describe_json_error(error, start)) from None
