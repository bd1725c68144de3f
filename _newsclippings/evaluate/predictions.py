"""Predictions of a model: JSON lines, CSV, TSV or Parquet, which may come from anyone, or rows in memory.

A file is recognised by its content. Only the known columns are read, and the sizes that a Parquet file claims are
compared with limits before anything else of it is read.
"""

import csv
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import BadFileError, NewsCLIPpingsError, bad_file
from _newsclippings.evaluate.measures import Floats
from _newsclippings.storage import (
    NAN_DECODER,
    describe_json_error,
    open_place,
    read_file,
    read_unpacked_sizes,
    recognise_wrong_file,
)
from _newsclippings.tables import Int64s, iterate_rows
from _newsclippings.text import did_you_mean, printable, short_repr

STDIN: Final = "-"
MOST: Final = 512 << 20  # bytes of a file
MOST_ROWS: Final = 2_000_000  # the largest split has 516,072
MOST_COLUMNS: Final = 1_000
MOST_FOOTER: Final = 8 << 20  # bytes of the footer of a Parquet file
MOST_UNPACKED: Final = 256 << 20  # bytes of a column in a row group
MOST_TEXTS: Final = 1 << 16  # bytes of all different labels
KEYS: Final = ("index", "id", "image_id")
ANSWERS: Final = ("score", "label_predicted", "group_predicted")
COLUMNS: Final = (*KEYS, *ANSWERS, "label", "abstained")
SPELLINGS: Final = (("0", "1"), ("false", "true"), ("pristine", "falsified"), ("real", "fake"))
_DO = (
    "Give each row `index` (or `id` and `image_id`), and `score` (a number, higher for falsified) or `label_predicted` "
    "(0 or 1, 1 for falsified)."
)
Codes = npt.NDArray[np.int8]
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Predictions:
    """The content of a file of M rows; None for a column that it does not have.

    Attributes:
        name: the file, for messages.
        unit: what a row is called in it: row, or line.
        places: its number there, of each row.
        keys: column -> int64 (M,): `index`, or `id` and `image_id`, or all three.
        score: float64 (M,), NaN where there is none.
        predicted: int8 (M,), 1 for falsified, -1 where there is none.
        label: int8 (M,), the true label that the file claims.
        abstained: int8 (M,), 1 where the model does not answer.
        group: the kind that the model gives to each row, for test sets with several; None where there is none.
    """

    name: str
    unit: str
    places: Sequence[int]
    keys: dict[str, Int64s]
    score: Floats | None
    predicted: Codes | None
    label: Codes | None
    abstained: Codes | None
    group: Sequence[str | None] | None = None


def read_predictions(source: str | os.PathLike[str] | Iterable[Any]) -> Predictions:
    """Read the predictions of a model.

    Args:
        source: a path, `"-"` for standard input, or rows: of any table that `iterate_rows` takes.

    Raises:
        BadFileError: the content is not a table with the needed columns, or a value has another type.
        DataNotFoundError: the file does not exist, or cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = os.path.expanduser(os.fspath(source))
        name = "standard input" if path == STDIN else printable(path)
        if path == STDIN:
            with tempfile.NamedTemporaryFile(prefix="newsclippings-") as file:
                file.write(sys.stdin.buffer.read(MOST + 1))
                file.flush()
                unit, places, columns = _read_file(file.name, name)
        else:
            unit, places, columns = _read_file(path, name)
    else:
        name, unit = "predictions", "row"
        places, columns = _collect(_check_rows(source, name), name)
    if not places:
        raise bad_file(name, "rows", "none", _DO)
    lacks = [] if "index" in columns or {"id", "image_id"} <= {*columns} else ["a column index (or id and image_id)"]
    lacks += [] if {*ANSWERS} & {*columns} else ["a column score (or label_predicted)"]
    if lacks:
        found = ", ".join(printable(str(column)[:40]) or "''" for column in list(columns)[:10])
        hint = "".join(did_you_mean(str(column), ANSWERS) for column in list(columns)[:10] if column not in COLUMNS)
        raise bad_file(name, " and ".join(lacks), found or "none", f"{hint} {_DO}".strip())
    convert = _Converter(name, unit, places)
    predicted, label, abstained = (
        convert.labels(column, columns[column]) if column in columns else None
        for column in ("label_predicted", "label", "abstained")
    )
    return Predictions(
        name,
        unit,
        places,
        {key: convert.integers(key, columns[key]) for key in KEYS if key in columns},
        convert.numbers("score", columns["score"]) if "score" in columns else None,
        predicted,
        label,
        abstained,
        convert.texts("group_predicted", columns["group_predicted"]) if "group_predicted" in columns else None,
    )


def _check_rows(source: Any, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, row in enumerate(iterate_rows(source)):
        if not isinstance(row, Mapping):
            do = f"Pass a path, rows, a data frame or a dict of columns. {_DO}"
            raise bad_file(f"{name}: row {number}", "a dict", short_repr(row), do)
        yield number, row


def _read_file(path: str, name: str) -> tuple[str, Sequence[int], Columns]:
    """Read a file; return what a row is called in it, the number of each row, and its columns."""
    with open_place(path) as file:
        head = file.read_at(0, 1024)
    if head.startswith(b"PAR1"):
        return "row", *_read_parquet(path, name)
    data = read_file(path, MOST)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if what := recognise_wrong_file(text):
        raise bad_file(name, "predictions as JSON lines, CSV, TSV or Parquet", what, "Unpack it, or fetch it again.")
    if text.startswith(b"["):
        raise bad_file(name, "one JSON object per line", "a list", "Write each object on a line of its own.")
    read = _read_json_lines if text.startswith(b"{") else _read_csv
    return "line", *_collect(read(data, name), name)


def _collect(rows: Iterable[tuple[int, Mapping[str, Any]]], name: str) -> tuple[list[int], Columns]:
    """Collect rows as columns: None where a row does not have a column; other columns by their names only."""
    places: list[int] = []
    lists: Columns = {column: [] for column in COLUMNS}
    seen: dict[str, None] = {}
    for place, row in rows:
        if len(places) == MOST_ROWS:
            raise bad_file(name, f"at most {MOST_ROWS:,} rows", "more", "Pass the predictions of one split.")
        places.append(place)
        if row.keys() - seen.keys():
            seen |= dict.fromkeys(row)
            if len(seen) > MOST_COLUMNS:
                raise bad_file(name, f"at most {MOST_COLUMNS:,} columns", "more", _DO)
        for column, values in lists.items():
            values.append(row.get(column))
    return places, {column: lists.get(column, []) for column in seen}


def _read_json_lines(data: bytes, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        if line.isspace():
            continue
        try:
            row = NAN_DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            raise bad_file(f"{name}: line {number}", "a JSON object", describe_json_error(error), _DO) from None
        if not isinstance(row, dict):
            raise bad_file(f"{name}: line {number}", "a JSON object", short_repr(row), _DO)
        yield number, row


def _read_csv(data: bytes, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        expected = "text in UTF-8, or Parquet"
        raise bad_file(name, expected, f"other bytes at byte {error.start}", "Save it as UTF-8.") from None
    first = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first else ","
    if ";" in first and delimiter not in first:
        do = "Write it with commas, and numbers with points."
        raise bad_file(name, "values separated by commas or tabs", "semicolons", do)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(lines, [])
        if len({*header}) < len(header):
            raise bad_file(f"{name}: line 1", "different names of columns", "one twice", _DO)
        for values in lines:
            if not values:
                continue
            if len(values) != len(header):
                expected = f"{len(header)} values"
                raise bad_file(f"{name}: line {lines.line_num}", expected, str(len(values)), "Quote texts with commas.")
            yield lines.line_num, dict(zip(header, (value.strip() or None for value in values), strict=True))
    except csv.Error as error:
        raise bad_file(f"{name}: line {lines.line_num}", "comma-separated values", str(error), _DO) from None


def _read_parquet(path: str, name: str) -> tuple[Sequence[int], Columns]:
    import pyarrow.parquet as pq

    try:
        sizes = read_unpacked_sizes(path, MOST_FOOTER)
        if max((size for group in sizes for size in group), default=0) > MOST_UNPACKED:
            raise bad_file(name, f"at most {MOST_UNPACKED:,} bytes of a column in a row group", "more", _DO)
        with pa.OSFile(path) as file:  # pyarrow takes some paths for URIs
            limits = {"thrift_string_size_limit": MOST_FOOTER, "thrift_container_size_limit": 100_000}
            kinds = {field.name: field.type for field in pq.ParquetFile(file, **limits).schema_arrow}
            texts = [column for column in COLUMNS if column in kinds and _is_text(kinds[column])]
            opened = pq.ParquetFile(file, read_dictionary=texts, pre_buffer=False, **limits)
            if opened.metadata.num_rows > MOST_ROWS:
                raise bad_file(name, f"at most {MOST_ROWS:,} rows", f"{opened.metadata.num_rows:,}", _DO)
            wanted = [column for column in COLUMNS if column in kinds]
            columns: Columns = {column: [] for column in kinds}
            for column in wanted:
                if not (_is_text(kinds[column]) or pa.types.is_boolean(kinds[column]) or _is_number(kinds[column])):
                    raise bad_file(f"{name}: {column}", "numbers or labels", str(kinds[column])[:80], _DO)
            rows = 0
            for batch in opened.iter_batches(10_000, columns=wanted, use_threads=False) if sizes and wanted else ():
                rows += len(batch)
                for column in wanted:
                    columns[column] += _values(batch.column(column), name)
    except NewsCLIPpingsError:
        raise
    except Exception as error:  # pyarrow raises errors of many types for files it cannot read
        found = printable(" ".join(str(error).split())[:200])
        raise bad_file(name, "a Parquet file", found, "Write it again.") from None
    return range(rows), columns


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _values(column: pa.Array, name: str) -> list[Any]:
    """Return the values of a column; texts, which may be long, only if they are few."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not pa.types.is_dictionary(column.type):
        values: list[Any] = column.to_pylist()
        return values
    if column.dictionary.nbytes > MOST_TEXTS:
        raise bad_file(name, f"labels of at most {MOST_TEXTS:,} bytes together", "more", _DO)
    words = [*column.dictionary.to_pylist(), None]
    return [words[-1 if code is None else code] for code in column.indices.to_pylist()]


class _Converter:
    """Converts columns of values of any type, and names the row of the first that does not fit."""

    def __init__(self, name: str, unit: str, places: Sequence[int]) -> None:
        self._name, self._unit, self._places = name, unit, places

    def integers(self, column: str, values: list[Any]) -> Int64s:
        """Convert to int64: integers, floats without a fraction, or digits."""
        return np.array(self._each(column, values, _to_integer, "an integer"), np.int64)

    def numbers(self, column: str, values: list[Any]) -> Floats:
        """Convert to float64; NaN for null."""
        if {*map(type, values)} <= {float}:
            return np.array(values, np.float64)
        return np.array(self._each(column, values, _to_number, "a number"), np.float64)

    def labels(self, column: str, values: list[Any]) -> Codes:
        """Convert labels in one of the `SPELLINGS` to 0 and 1; -1 for null."""
        words = {key: _spell(key) for key in {(type(value), _hashable(value)) for value in values}}
        used = {word for word in words.values() if word is not None}
        spelling = next((pair for pair in SPELLINGS if used <= {*pair}), None)
        if spelling is None:
            fits = max(SPELLINGS, key=lambda pair: len(used & {*pair}))
            known = f"one spelling of labels ({', '.join('/'.join(pair) for pair in SPELLINGS)})"
            row = next(k for k, v in enumerate(values) if words[type(v), _hashable(v)] not in (None, *fits))
            raise self._bad(row, f"{known} as {column}", values[row])
        codes = {key: -1 if word is None else spelling.index(word) for key, word in words.items()}
        return np.array([codes[type(value), _hashable(value)] for value in values], np.int8)

    def texts(self, column: str, values: list[Any]) -> list[str | None]:
        """Convert to texts; None for null."""
        return self._each(column, values, _to_text, "a text")

    def _each(self, column: str, values: list[Any], convert: Callable[[Any], Any], expected: str) -> list[Any]:
        converted = []
        for row, value in enumerate(values):
            try:
                converted.append(convert(value))
            except (TypeError, ValueError, OverflowError, AttributeError):
                raise self._bad(row, f"{expected} as {column}", value) from None
        return converted

    def _bad(self, row: int, expected: str, found: object) -> BadFileError:
        return bad_file(f"{self._name}: {self._unit} {self._places[row]}", expected, short_repr(found), _DO)


def _to_integer(value: Any) -> int:
    number = int(value if not isinstance(value, str) or value.strip().lstrip("-").isdecimal() else float(value))
    if isinstance(value, bool) or number != float(value) or not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _to_number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float("nan") if value is None else float(value)


def _to_text(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError
    return value.strip() if value else None


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | type(None)) else str(value)


def _spell(key: tuple[type, Any]) -> str | None:
    """Return a label in lower case, 0 and 1 for numbers of any type; None for null and NaN."""
    kind, value = key
    if value is None or value != value:
        return None
    word = str(value).strip().lower()
    return word.removesuffix(".0") if kind is not bool else word
