"""A corpus of one's own in a table: a CSV or Parquet file with a row for each picture and its caption.

| column | what |
|---|---|
| id | an integer, different in each row |
| caption | text |
| image_path | the file of the picture, relative to the folder of the table |
| outlet | who published it; optional; it may also be named source |
| topic | optional |
| article | what names the article, such as its URL: the rows of one article have one value; optional |
| time | when it was published: ISO 8601, in a Parquet file also a timestamp or a date; optional |
| has_person | whether there is a person in the picture: true or false; optional |

Other columns with texts, integers or booleans may be named in the rules of `newsclippings generate`.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.corpus.metadata import PLACEHOLDERS, parse_timestamp
from _newsclippings.corpus.records import SCHEMA, with_normal_paths
from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.storage import find_place, read_footer
from _newsclippings.tables import Int64s, array_of, as_array, int64s, lookup, one_chunk, values_of
from _newsclippings.text import did_you_mean, printable

NEEDED = ("id", "caption", "image_path")
_TEXTS = {"outlet": "source", "topic": "topic", "article": "article"}  # optional column -> its name in the records
_READ = (*NEEDED, *_TEXTS, "source", "time", "has_person")
_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "": None}
_MOST_FOOTER = 64 << 20
_DO = "Correct the table."


def read_own_table(location: str, wanted: Int64s | None) -> pa.Table:
    """Read records from a table of one's own.

    Args:
        location: the file, CSV or Parquet.
        wanted: int64 (N,), ids, sorted and unique; None for all.

    Returns:
        Arrow table sorted by id: the columns of `SCHEMA`, `article` ("" for unknown), `time` (float64, seconds, null
        for unknown), `has_person` (null for unknown), and the other columns as texts. An id that is not there has no
        row.

    Raises:
        BadFileError: it is no such table; the message names the row.
        UnsafePathError: a path could leave the folder of the table.
    """
    table = _read_csv(location) if location.lower().endswith(".csv") else _read_parquet(location)
    names = table.column_names
    if absent := [name for name in NEEDED if name not in names]:
        hint = did_you_mean(absent[0], names)
        found = f"{', '.join(map(printable, names[:12]))}, without {absent[0]}"
        together = len(names) == 1 and not {*names[0]}.isdisjoint(";\t|")
        do = "Separate its columns by commas." if together else f"Rename or add it.{hint}"
        raise bad_file(location, f"the columns {', '.join(NEEDED)}", found, do)
    if double := [name for name in names if names.count(name) > 1]:
        raise bad_file(location, "different names of columns", f"{printable(double[0])} several times", _DO)
    if {"outlet", "source"} <= {*names}:
        raise bad_file(location, "one of the columns outlet and source", "both", "Rename that which is no outlet.")
    ids = _read_ids(table["id"], location)
    order = np.argsort(ids, kind="stable")
    if len(twice := order[1:][np.diff(ids[order]) == 0]):
        raise bad_file(f"{location}: id {ids[twice[0]]}", "each id once", "it more than once", _DO)
    if wanted is not None:
        places = lookup(ids[order], wanted)
        order = order[places[places >= 0]]
    table = table.take(as_array(order))
    columns = {"id": as_array(ids[order])}
    for name in ("caption", "image_path"):
        columns[name] = text = _as_text(table[name], name, location)
        if text.null_count:
            row = int(np.argmin(values_of(text.is_valid())))
            raise bad_file(f"{location}: id {ids[order][row]}", f"a text as {name}", "none", _DO)
    empty = array_of([""] * len(order), pa.string())
    for name, ours in _TEXTS.items():
        given = name if name in names else ours
        columns[ours] = pc.coalesce(_as_text(table[given], given, location), empty) if given in names else empty
    columns["time"] = _read_times(table["time"], columns["id"], location) if "time" in names else _unknown(order)
    columns["has_person"] = (
        _read_truths(table["has_person"], columns["id"], location)
        if "has_person" in names
        else pa.nulls(len(order), pa.bool_())
    )
    for name in names:
        if name not in (*NEEDED, *_TEXTS, *columns):
            columns[name] = _as_text(table[name], name, location)
    ordered = [*SCHEMA.names, *(name for name in columns if name not in SCHEMA.names)]
    expected = "a path relative to the folder of the table, such as 'pictures/1.jpg'. Correct the table."
    return with_normal_paths(pa.table({name: columns[name] for name in ordered}), location, expected)


def _unknown(rows: Int64s) -> pa.Array:
    return pa.nulls(len(rows), pa.float64())


def _read_csv(location: str) -> pa.Table:
    from pyarrow import csv

    parse = csv.ParseOptions(newlines_in_values=True)
    try:
        with csv.open_csv(location, parse_options=parse) as file:
            names = file.schema.names
        texts = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        return csv.read_csv(location, parse_options=parse, convert_options=texts)
    except pa.ArrowException as error:
        raise _no_table(location, error) from error


def _read_parquet(location: str) -> pa.Table:
    import pyarrow.parquet as pq

    read_footer(find_place(location), location, (), _MOST_FOOTER, _DO, nested=True)
    try:
        file = pq.ParquetFile(location)
        for field in file.schema_arrow:
            if field.name in _READ and not _is_plain(field.type):
                what = f"texts, integers, booleans or times in the column {field.name}"
                raise bad_file(location, what, str(field.type), "Convert it.")
        return file.read([name for name in file.schema_arrow.names if _is_plain(file.schema_arrow.field(name).type)])
    except pa.ArrowException as error:
        raise _no_table(location, error) from error


def _no_table(location: str, error: Exception) -> BadFileError:
    do = "Save it as UTF-8 with a line of names above the rows."
    return bad_file(location, "a table", printable(" ".join(str(error).split())[:160]), do)


def _is_plain(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = ("string", "large_string", "integer", "boolean", "timestamp", "date", "null")
    return any(getattr(pa.types, f"is_{test}")(inner) for test in tests)


def _as_text(column: pa.ChunkedArray, name: str, location: str) -> pa.Array:
    try:
        return one_chunk(column.cast(pa.string()))
    except pa.ArrowException as error:
        raise bad_file(location, f"texts in the column {name}", printable(str(error))[:100], _DO) from error


def _read_ids(column: pa.ChunkedArray, location: str) -> Int64s:
    try:
        ids = column.cast(pa.int64())
    except pa.ArrowException as error:
        raise bad_file(location, "integers in the column id", printable(str(error))[:100], _DO) from error
    if ids.null_count or not len(ids):
        found = "a row without one" if len(ids) else "no row"
        raise bad_file(location, "an id in each row", found, _DO)
    return int64s(ids)


def _read_times(column: pa.ChunkedArray, ids: pa.Array, location: str) -> pa.Array:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        try:
            options = pc.CastOptions(pa.timestamp("us"), allow_time_truncate=True)
            seconds = one_chunk(column.cast(options=options).cast(pa.int64()))
        except pa.ArrowException as error:
            raise bad_file(location, "times in the column time", printable(str(error))[:100], _DO) from error
        return as_array(values_of(seconds, 0).astype(np.float64) / 1e6, ~values_of(seconds.is_valid()))
    values: list[Any] = []
    for row, text in enumerate(_as_text(column, "time", location).to_pylist()):
        time = parse_timestamp(text)
        unknown = not (text or "").strip() or text.strip()[:10] in {str(day) for day in PLACEHOLDERS}
        if time is None and not unknown:
            place = f"{location}: id {ids[row].as_py()}"
            raise bad_file(place, "a time such as 2015-12-31 or 2015-12-31T23:59:59Z", repr(text)[:60], _DO)
        values.append(time and time.timestamp())
    return array_of(values, pa.float64())


def _read_truths(column: pa.ChunkedArray, ids: pa.Array, location: str) -> pa.Array:
    values = []
    for row, text in enumerate(_as_text(column, "has_person", location).to_pylist()):
        key = (text or "").strip().lower()
        if key not in _TRUTHS:
            place = f"{location}: id {ids[row].as_py()}"
            raise bad_file(place, "true or false as has_person", repr(text)[:60], _DO)
        values.append(_TRUTHS[key])
    return array_of(values, pa.bool_())
