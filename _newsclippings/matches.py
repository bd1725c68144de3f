"""The official matches, data/<config>/<split>.json, as an Arrow table in the file's own order."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from _newsclippings.errors import bad_file
from _newsclippings.facts import SOURCE_DATASETS
from _newsclippings.storage import DECODER, NO_ACCESS, Access, describe_json_error, read_json_text
from _newsclippings.tables import as_array, empty_table, table_of, values_of

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("image_id", pa.int64()),
        ("similarity_score", pa.float64()),
        ("source_dataset", pa.int64()),
        ("falsified", pa.bool_()),
    ]
)
BLOCK = 8 << 20  # bytes that are decoded at a time
_GAP = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")  # between two rows
REQUIRED = ("id", "image_id", "similarity_score", "falsified")
_INTEGERS = ("id", "image_id", "source_dataset")
_BOOLEANS = {"True": True, "False": False, "true": True, "false": False}
_DO = "Fetch the file again from the authors' Hub repository."


def read_matches(
    location: str, config: str, access: Access = NO_ACCESS, names: Sequence[str] = SOURCE_DATASETS
) -> pa.Table:
    """Read one file of matches.

    Args:
        location: the JSON file: an object with `annotations`, a list of rows, and optionally `source_datasets`, the
            names that the rows' `source_dataset` indexes (a list, or an object with the keys "0", "1", ...).
        config: the config it belongs to. If no row has a `source_dataset`, all pairs are of this config.
        access: what the user passed to reach a URL.
        names: the names of the measures, of a generated config those of its methods.

    Returns:
        Arrow table of `SCHEMA`, one row per match, in the order of the file. `source_dataset` indexes `names`,
        whatever the order of the file's own names; null if it is unknown. In the file, `falsified` may be bool or 0/1,
        and `similarity_score` integer or float. A column may also have its integers as floats or text, or its booleans
        as text, if all rows do. Other keys of rows are ignored.

    Raises:
        BadFileError: the file is not such JSON; the message names the row.
    """
    text = read_json_text(location, access)
    rows, given = _read_fast(text) or _read_exact(text, location)
    if not len(rows):
        raise bad_file(location, "at least one match in 'annotations'", "an empty list", _DO)
    source = rows["source_dataset"].combine_chunks()
    if source.null_count == len(source) and config in names:
        source = as_array(np.full(len(rows), names.index(config), np.int64))
    else:
        codes = _index_names(given, names, location)
        known = values_of(source.drop_null())
        if len(known) and not (known.min() >= 0 and known.max() < len(codes)):
            wrong = int(known.min()) if known.min() < 0 else int(known.max())
            raise bad_file(location, f"source_dataset from 0 to {len(codes) - 1}", str(wrong), _DO)
        source = as_array(np.array(codes, np.int64)).take(source)
    return rows.set_column(SCHEMA.get_field_index("source_dataset"), "source_dataset", source)


def _index_names(given: Any, names: Sequence[str], location: str) -> list[int]:
    """Convert `source_datasets` of a file: the position in `names` of each that is given."""
    if given is None or given in ({}, []):
        return list(range(len(names)))
    if isinstance(given, dict) and set(given) == {str(k) for k in range(len(given))}:
        given = [given[str(k)] for k in range(len(given))]
    if not isinstance(given, list) or not set(map(str, given)) <= set(names) or len(set(given)) < len(given):
        expected = f"source_datasets as a list, or an object with keys '0', '1', ..., of {', '.join(names)}"
        raise bad_file(location, expected, repr(given)[:120], _DO)
    return [names.index(name) for name in given]


def _read_fast(text: bytes) -> tuple[pa.Table, Any] | None:
    """Read rows and `source_datasets` with Arrow; None if the text is not in a layout for which that is exact."""
    start = text.find(b"[", text.find(b'"annotations"')) + 1
    end = text.find(b"]", start)
    if start <= 0 or end < 0:
        return None
    try:  # it is the right list, and all of it, if an edit of this part of the text changes exactly this list
        empty, marked = (DECODER.decode((text[:start] + put + text[end:]).decode("utf-8-sig")) for put in (b"", b"0"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(empty, dict) or [empty.get("annotations"), marked.get("annotations")] != [[], [0]]:
        return None
    rows = _parse_rows(text, start, end)
    return (rows, empty.get("source_datasets")) if rows is not None and len(rows) else None


def _parse_rows(text: bytes, start: int, end: int) -> pa.Table | None:
    """Parse flat rows with equal text between them as lines of JSON; None if they are anything else.

    Arrow accepts rows without commas between them, and crashes at a line that begins with `null`. So each line must
    begin with its only opening brace and end with its only closing brace.
    """
    if not text.isascii():
        return None
    gap = _GAP.search(text, start, end)
    between = gap[0] if gap else b"},{"
    tables = []
    while start < end:  # in pieces, to save memory
        stop = text.find(between, start + BLOCK, end) + 1 or end
        lines = _join_lines(text[start:stop]).strip(b" \t").replace(_join_lines(between), b"}\n{")
        counts = lines.count(b"\n") + 1, lines.count(b"{"), lines.count(b"}")
        if not lines.startswith(b"{") or not lines.endswith(b"}") or min(counts) != max(counts):
            return None
        try:
            rows = pj.read_json(
                pa.BufferReader(lines),
                parse_options=pj.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error"),
            )
        except pa.ArrowException:
            return None
        if len(rows) != counts[0] or any(rows[name].null_count for name in REQUIRED):
            return None
        tables.append(rows)
        start = stop + len(between) - 2 if stop < end else end
    rows = pa.concat_tables([empty_table(SCHEMA), *tables]).combine_chunks()
    scores = values_of(rows["similarity_score"])
    return rows if (np.abs(scores) < 2.0**63).all() else None  # false for NaN


def _join_lines(text: bytes) -> bytes:
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def _read_exact(text: bytes, location: str) -> tuple[pa.Table, Any]:
    """Read rows and `source_datasets` row by row, and say which row is wrong."""
    try:
        content = DECODER.decode(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise bad_file(location, "JSON", describe_json_error(error), _DO) from None
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise bad_file(location, "an object with a list 'annotations'", _shorten(content), _DO)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise bad_file(f"{location}: row {number}", "an object", _shorten(row), _DO)
    plain = [{name: row[name] for name in SCHEMA.names if name in row} for row in rows]
    _convert_columns(plain)
    for number, row in enumerate(plain):
        _check_row(row, f"{location}: row {number}")
        row["similarity_score"], row["falsified"] = float(row["similarity_score"]), bool(row["falsified"])
    return table_of(plain, SCHEMA), content.get("source_datasets")


def _convert_columns(rows: list[dict[str, Any]]) -> None:
    """Convert integers that are floats or text, and booleans that are text, if the whole column is like that.

    Data frames and CSV files leave such columns. A single such value is damage, and is left for `_check_row`.
    """
    for name in (*_INTEGERS, "falsified"):
        known = [row for row in rows if row.get(name) is not None]
        values = [_to_bool(row[name]) if name == "falsified" else _to_int(row[name]) for row in known]
        if len({type(row[name]) for row in known}) == 1 and None not in values:
            for row, value in zip(known, values, strict=True):
                row[name] = value


def _to_int(value: Any) -> int | None:
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return int(value) if type(value) is str and re.fullmatch(r"-?[0-9]{1,18}", value) else None


def _to_bool(value: Any) -> bool | None:
    return _BOOLEANS.get(value) if type(value) is str else None


def _check_row(row: dict[str, Any], place: str) -> None:
    for name in REQUIRED:
        if name not in row:
            raise bad_file(place, f"the keys {', '.join(REQUIRED)}", f"no {name}", _DO)
    for name in _INTEGERS:
        value = row.get(name)
        if type(value) is not int and not (name == "source_dataset" and value is None):
            raise bad_file(place, f"an integer as {name}", _shorten(value), _DO)
    score = row["similarity_score"]
    if type(score) not in (int, float) or not math.isfinite(score):
        raise bad_file(place, "a finite number as similarity_score", _shorten(score), _DO)
    if row["falsified"] not in (True, False):  # 0 == False and 1 == True
        raise bad_file(place, "true, false, 0 or 1 as falsified", _shorten(row["falsified"]), _DO)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
