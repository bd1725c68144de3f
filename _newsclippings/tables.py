"""Convert between Arrow, numpy and Python, make Arrow schemas, and look up rows by id.

pyarrow imports pandas (0.2 s, 30 MB) when one of its conversions, such as `pa.array`, `to_numpy` or
`Table.from_pylist`, is called for the first time. The functions here make and read buffers instead.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
DENSE = 10_000_000  # smaller ids are looked up in a plain table (up to 40 MB), 40 times faster than by binary search

_ARROW = {
    "bool": pa.bool_(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "timestamp[s, tz=UTC]": pa.timestamp("s", "UTC"),
}


def as_array(values: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Make an Arrow array from numbers or booleans (N,); null where the mask (N,) is true. Numbers are not copied."""
    data = np.packbits(values, bitorder="little") if values.dtype == bool else np.ascontiguousarray(values)
    valid = pa.py_buffer(np.packbits(~mask, bitorder="little")) if mask is not None and mask.any() else None
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, pa.py_buffer(data)])


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make an Arrow array from Python values.

    Args:
        values: of the type `kind`, which is not checked for numbers. None becomes null; structs cannot be None.
        kind: numbers, booleans, strings, binary, timestamps, or lists and structs of them.

    Raises:
        OverflowError: an integer is too large, or texts have more than 2 GiB together.
        TypeError: a text has another type, or a struct is None.
        UnicodeEncodeError: a text has a lone surrogate.
    """
    if pa.types.is_struct(kind):
        fields = list(kind)
        return pa.StructArray.from_arrays(
            [array_of([v[f.name] for v in values], f.type) for f in fields], fields=fields
        )
    if pa.types.is_list(kind):
        lists = [value or () for value in values]
        items = array_of(list(chain.from_iterable(lists)), kind.value_type)
        mask = as_array(np.array([v is None for v in values])) if None in values else None
        return pa.ListArray.from_arrays(as_array(_offsets(lists)), items, type=kind, mask=mask)
    if pa.types.is_timestamp(kind):
        return array_of([v and int(v.timestamp()) for v in values], pa.int64()).cast(kind)
    absent = np.array([v is None for v in values], bool)
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return as_array(np.array([0 if v is None else v for v in values], kind.to_pandas_dtype()), absent)
    encode = str.encode if pa.types.is_string(kind) else bytes
    parts = [b"" if v is None else encode(v) for v in values]
    valid = as_array(~absent).buffers()[1] if absent.any() else None
    buffers = [valid, pa.py_buffer(_offsets(parts)), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(kind, len(parts), buffers)


def _offsets(parts: Sequence[Any]) -> Int32s:
    """Return where each part begins if all are concatenated, and where the last ends: int32 (N + 1,)."""
    return np.array([*accumulate(map(len, parts), initial=0)], np.int32)


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Make a table from rows; null if a row does not have a column. See `array_of` for the values."""
    columns = [array_of([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def empty_table(schema: pa.Schema) -> pa.Table:
    """Make a table without rows."""
    return pa.Table.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)


def values_of(column: pa.Array | pa.ChunkedArray, null: float = np.nan) -> npt.NDArray[Any]:
    """Return a column of numbers or booleans as numpy, with `null` for nulls. One chunk of numbers is not copied."""
    chunks = [_values(c) for c in (column.chunks if isinstance(column, pa.ChunkedArray) else [column]) if len(c)]
    values = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *chunks])
    return np.where(values_of(column.is_valid()), values, null) if column.null_count else values


def _values(chunk: pa.Array) -> npt.NDArray[Any]:
    data, kind = chunk.buffers()[1], chunk.type
    if pa.types.is_boolean(kind):
        first, skip = divmod(chunk.offset, 8)
        bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=first), count=skip + len(chunk), bitorder="little")
        return bits[skip:].view(bool)
    return np.frombuffer(data, kind.to_pandas_dtype(), len(chunk), chunk.offset * kind.bit_width // 8)


def int64s(column: pa.ChunkedArray) -> Int64s:
    """Return a column of int64 without nulls as numpy; see `values_of`."""
    values: Int64s = values_of(column)
    return values


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of strings as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.nulls(0, pa.string()), *column.chunks])


def unique_ids(*arrays: Int64s) -> Int64s:
    """Merge arrays of ids, sorted and unique."""
    ids = np.concatenate(arrays)
    if not len(ids) or ids.min() < 0 or ids.max() >= DENSE:
        return np.unique(ids)
    flags = np.zeros(int(ids.max()) + 1, bool)  # a hundred times faster than sorting
    flags[ids] = True
    return np.flatnonzero(flags)


def lookup(ids: Int64s, keys: Int64s) -> Int32s:
    """Find the position of each key in sorted unique ids: int32 (N,), -1 if it is not among them."""
    if not len(ids) or not len(keys):
        return np.full(len(keys), -1, np.int32)
    if ids[0] >= 0 and ids[-1] < DENSE and len(keys) > len(ids) // 32:  # for few keys the table takes longer
        table = np.full(int(ids[-1]) + 2, -1, np.int32)
        table[ids] = np.arange(len(ids), dtype=np.int32)
        return table[np.where((keys < 0) | (keys > ids[-1]), len(table) - 1, keys)]
    place = np.minimum(np.searchsorted(ids, keys), len(ids) - 1)
    return np.where(ids[place] == keys, place, -1).astype(np.int32)


def arrow_schema(columns: Mapping[str, Any]) -> pa.Schema:
    """Make the schema that `datasets` uses for these columns."""
    return pa.schema([(name, _arrow_type(column)) for name, column in columns.items()])


def _arrow_type(column: Any) -> pa.DataType:
    if isinstance(column, list):
        return pa.list_(_arrow_type(column[0]))
    kind = column.get("_type")
    if kind == "Value":
        return _ARROW[column["dtype"]]
    if kind == "ClassLabel":
        return pa.int64()
    if kind == "Image":
        return pa.struct({"bytes": pa.binary(), "path": pa.string()})
    if kind == "Sequence":
        return pa.list_(_arrow_type(column["feature"]), column.get("length", -1))
    return pa.struct({name: _arrow_type(field) for name, field in column.items()})


def iterate_rows(rows: Any) -> Iterator[Any]:
    """Yield the rows of a table in memory: an Arrow table, a data frame, a dict of columns of one length, or rows.

    Anything else, such as one row, is yielded as it is.
    """
    if hasattr(rows, "to_pylist"):
        yield from rows.to_pylist()
    elif hasattr(rows, "columns"):  # of pandas or Polars
        yield from iterate_rows({name: [*rows[name]] for name in rows.columns})
    elif not isinstance(rows, Mapping):
        yield from rows if isinstance(rows, Iterable) else [rows]
    elif None not in (lengths := {_length(values) for values in rows.values()}) and len(lengths) == 1:
        yield from (dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True))
    else:
        yield rows


def _length(values: Any) -> int | None:
    """Return the number of values of a column; None for what is no column."""
    return len(values) if hasattr(values, "__len__") and not isinstance(values, str | bytes | Mapping) else None
