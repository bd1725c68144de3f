"""Scan a large JSON file of records exactly: decode every record, and say what is wrong with the file and where."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from _newsclippings.corpus.fast_scan import BLOCK, DECODED, MakeTable
from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.storage import DECODER, TRUNCATED, Stream, check_json_head, describe_json_error, has_surrogates
from _newsclippings.tables import Int64s, table_of

_DO = "Fetch the file again."
MAX_RECORD = 1 << 22  # characters; the longest real record has a few thousand


def scan_exactly(
    stream: Stream, location: str, wanted: Int64s | None, schema: pa.Schema, make_table: MakeTable | None
) -> pa.Table:
    """Read the wanted records (None: all), in file order; see `pick_records` for the arguments and errors."""
    ids = set(wanted.tolist()) if wanted is not None else None
    seen: set[int] = set()
    records: list[dict[str, Any]] = []
    tables: list[pa.Table] = []

    def convert() -> None:
        tables.append(make_table(records) if make_table else table_of(records, schema))
        records.clear()

    for number, record in enumerate(walk_records(stream, location)):
        place = f"{location}: record {number}"
        record_id = record.get("id")
        if type(record_id) is not int:
            raise bad_file(place, "an integer id", repr(record_id)[:60], _DO)
        if ids is not None and record_id not in ids:
            continue
        place = f"{place} (id {record_id})"
        if record_id in seen:
            raise bad_file(place, "each id once", "the id a second time", _DO)
        for name in schema.names[1:]:
            value = record.get(name)
            if not isinstance(value, str):
                raise bad_file(place, f"a string as {name}", repr(value)[:60] if name in record else "no such key", _DO)
            if has_surrogates(value):
                raise bad_file(place, f"Unicode text as {name}", "a lone surrogate", _DO)
        seen.add(record_id)
        records.append(record)
        if len(records) == DECODED:  # to save memory
            convert()
    convert()
    return pa.concat_tables(tables)


def walk_records(stream: Stream, location: str) -> Iterator[dict[str, Any]]:
    """Decode a list of records, or an object of records by id, one at a time in constant memory.

    Raises:
        BadFileError: the file is not JSON in one of these layouts; the message names the record and the byte.
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
    """A window that slides over the text of a file.

    Attributes:
        window: the text that is in memory.
        pos: the position in it.
        before: bytes of the file before the window.
        record: number of the record at the position.
    """

    def __init__(self, stream: Stream, location: str) -> None:
        self.stream, self.location = stream, location
        self.utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self.window, self.pos, self.before, self.record, self.ended = "", 0, 0, 0, False
        self.broken: UnicodeDecodeError | None = None  # raised when the window is used up

    def bad(self, expected: str, found: str) -> BadFileError:
        """Make the error of this position."""
        place = f"{self.location}: record {self.record} (near byte {self.before + self._bytes_read()})"
        return bad_file(place, expected, found, _DO)

    def _bytes_read(self) -> int:
        return len(self.window[: self.pos].encode("utf-8", "surrogatepass"))

    def read_block(self) -> bool:
        """Drop the text before the position and append the next block; return false at the end of the file."""
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
        except UnicodeDecodeError as error:  # the text before it is decoded first, so that the error names the record
            text, self.broken, self.ended = error.object[: error.start].decode(), error, False
        self.before += self._bytes_read()
        self.window, self.pos = self.window[self.pos :] + text, 0
        return not self.ended

    def next_token(self) -> str:
        """Return the next character that is not white space, without consuming it; "" at the end of the file."""
        while True:
            while self.pos < len(self.window):
                if self.window[self.pos] not in " \t\n\r":
                    return self.window[self.pos]
                self.pos += 1
            if not self.read_block():
                return ""

    def decode(self) -> Any:
        """Decode the JSON value that starts at the next token."""
        if not self.next_token():
            raise self.bad("a value", "the end of the file (truncated)")
        while True:
            start = self.pos
            try:
                value, end = DECODER.raw_decode(self.window, self.pos)
                if end < len(self.window) or not self.read_block():
                    self.pos = end
                    return value
            except RecursionError:
                raise self.bad("a flat record", "one that is nested too deeply") from None
            except ValueError as error:  # invalid JSON, or a value that continues after the window
                if len(self.window) - self.pos > MAX_RECORD:
                    endless = isinstance(error, json.JSONDecodeError) and describe_json_error(error) == TRUNCATED
                    expected = f"a record of at most {MAX_RECORD:,} characters" if endless else "JSON"
                    raise self.bad(expected, "a longer one" if endless else describe_json_error(error, start)) from None
                if not self.read_block():
                    raise self.bad("JSON", describe_json_error(error, start)) from None
