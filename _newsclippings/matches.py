"""The official matches, data/<config>/<split>.json, as an Arrow table in the file's own order."""

import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from _newsclippings.errors import bad_file
from _newsclippings.facts import SOURCE_DATASETS
from _newsclippings.storage import DECODER, describe_json_error, read_json_text
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
BLOCK = 8 << 20  # bytes that are decoded at once
_GAP = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")  # between two rows
REQUIRED = ("id", "image_id", "similarity_score", "falsified")
_WHOLE = ("id", "image_id", "source_dataset")  # whole numbers
_TRUTHS = {"True": True, "False": False, "true": True, "false": False}
_AGAIN = "Fetch the file again from the authors' Hub repository."


def read_matches(location: str, config: str) -> pa.Table:
    """Read one file of matches.

    Args:
        location: the JSON file: an object with `annotations`, a list of rows, and perhaps `source_datasets`, the names
            that the rows' `source_dataset` counts (a list, or an object with the keys "0", "1", ...).
        config: the config it belongs to; where a row has no `source_dataset`, the config itself made the pair.

    Returns:
        Arrow table of `SCHEMA`, one row per match, row number = position in the file. `source_dataset` indexes
        `SOURCE_DATASETS` whatever the order of the file's own table; null where nothing tells it. `falsified` may be
        bool or 0/1 in the file, `similarity_score` integer or float. Whole numbers may be floats or text, and truths
        text, if they are in every row. What rows hold besides is left aside.

    Raises:
        BadFileError: the file is no such JSON; the message names the row.
    """
    text = read_json_text(location)
    found = _read_fast(text)
    if found is None:
        found = _read_exact(text, location)
    rows, names = found
    if not len(rows):
        raise bad_file(location, "at least one match in 'annotations'", "an empty list", _AGAIN)
    return _with_sources(rows, names, location, config)


def _with_sources(rows: pa.Table, names: Any, location: str, config: str) -> pa.Table:
    """The rows with `source_dataset` in our numbers."""
    source = rows["source_dataset"].combine_chunks()
    if source.null_count == len(source) and config in SOURCE_DATASETS:
        source = as_array(np.full(len(rows), SOURCE_DATASETS.index(config), np.int64))
    else:
        codes = _codes(names, location)
        known = values_of(source.drop_null())
        if len(known) and not (known.min() >= 0 and known.max() < len(codes)):
            wrong = int(known.min()) if known.min() < 0 else int(known.max())
            raise bad_file(location, f"source_dataset from 0 to {len(codes) - 1}", str(wrong), _AGAIN)
        source = as_array(np.array(codes, np.int64)).take(source)
    return rows.set_column(SCHEMA.get_field_index("source_dataset"), "source_dataset", source)


def _codes(names: Any, location: str) -> list[int]:
    """File's number of a sub-split -> ours."""
    if names is None or names in ({}, []):
        return list(range(len(SOURCE_DATASETS)))
    if isinstance(names, dict) and set(names) == {str(k) for k in range(len(names))}:
        names = [names[str(k)] for k in range(len(names))]
    if not isinstance(names, list) or not set(map(str, names)) <= set(SOURCE_DATASETS) or len(set(names)) < len(names):
        expected = f"source_datasets as a list, or an object with keys '0', '1', ..., of {', '.join(SOURCE_DATASETS)}"
        raise bad_file(location, expected, repr(names)[:120], _AGAIN)
    return [SOURCE_DATASETS.index(name) for name in names]


def _plain_list(text: bytes) -> tuple[int, int, Any] | None:
    """Where the list of rows starts and ends, and the file's names of the sub-splits; None if that is in doubt."""
    start = text.find(b"[", text.find(b'"annotations"')) + 1
    end = text.find(b"]", start)
    if start <= 0 or end < 0:
        return None
    try:  # what is cut out is the list, and not another one, if the list is what one puts in its place
        rest, marked = (DECODER.decode((text[:start] + put + text[end:]).decode("utf-8-sig")) for put in (b"", b"0"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(rest, dict) or [rest.get("annotations"), marked.get("annotations")] != [[], [0]]:
        return None
    return start, end, rest.get("source_datasets")


def _read_fast(text: bytes) -> tuple[pa.Table, Any] | None:
    plain = _plain_list(text)
    rows = _parse(text, plain[0], plain[1]) if plain else None
    return (rows, plain[2]) if plain and rows is not None and len(rows) else None


def _parse(text: bytes, start: int, end: int) -> pa.Table | None:
    """Rows hold numbers and booleans only, and between them stands always the same: Arrow reads them as lines.

    Arrow does without commas between rows, and crashes at a line that begins with `null`. So it gets nothing but lines
    of which each begins with the one brace in it that opens, and ends with the one that closes.
    """
    if not text.isascii():
        return None
    gap = _GAP.search(text, start, end)
    between = gap[0] if gap else b"},{"
    tables = []
    while start < end:  # piece by piece, for the memory
        stop = text.find(between, start + BLOCK, end) + 1 or end
        lines = _flat(text[start:stop]).strip(b" \t").replace(_flat(between), b"}\n{")
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
    return rows if (np.abs(scores) < 2.0**63).all() else None  # not one of them NaN


def _flat(text: bytes) -> bytes:
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def _read_exact(text: bytes, location: str) -> tuple[pa.Table, Any]:
    """The slow way, which explains what is wrong."""
    try:
        content = DECODER.decode(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise bad_file(location, "JSON", describe_json_error(error), _AGAIN) from None
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise bad_file(location, "an object with a list 'annotations'", _shown(content), _AGAIN)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise bad_file(f"{location}: row {number}", "an object", _shown(row), _AGAIN)
    plain = [{name: row[name] for name in SCHEMA.names if name in row} for row in rows]
    _convert_columns(plain)
    for number, row in enumerate(plain):
        _check(row, f"{location}: row {number}")
        row["similarity_score"], row["falsified"] = float(row["similarity_score"]), bool(row["falsified"])
    return table_of(plain, SCHEMA), content.get("source_datasets")


def _convert_columns(rows: list[dict[str, Any]]) -> None:
    """Turn numbers that are floats or text in every row, as joins by hand leave them, into numbers; likewise truths.

    A value that is unlike those of other rows is damage, and stays for `_check`.
    """
    for name in (*_WHOLE, "falsified"):
        known = [row for row in rows if row.get(name) is not None]
        values = [_truth(row[name]) if name == "falsified" else _whole(row[name]) for row in known]
        if len({type(row[name]) for row in known}) == 1 and None not in values:
            for row, value in zip(known, values, strict=True):
                row[name] = value


def _whole(value: Any) -> int | None:
    """A whole number that is a float or text; None if it is none."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return int(value) if type(value) is str and re.fullmatch(r"-?[0-9]{1,18}", value) else None


def _truth(value: Any) -> bool | None:
    return _TRUTHS.get(value) if type(value) is str else None


def _check(row: dict[str, Any], place: str) -> None:
    for name in REQUIRED:
        if name not in row:
            raise bad_file(place, f"the keys {', '.join(REQUIRED)}", f"no {name}", _AGAIN)
    for name in _WHOLE:
        value = row.get(name)
        if type(value) is not int and not (name == "source_dataset" and value is None):
            raise bad_file(place, f"an integer as {name}", _shown(value), _AGAIN)
    score = row["similarity_score"]
    if type(score) not in (int, float) or not math.isfinite(score):
        raise bad_file(place, "a finite number as similarity_score", _shown(score), _AGAIN)
    if row["falsified"] not in (True, False):  # 0 and 1 equal them
        raise bad_file(place, "true, false, 0 or 1 as falsified", _shown(row["falsified"]), _AGAIN)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
