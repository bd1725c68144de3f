"""Columns of Arrow tables as one array, their schema, and rows looked up by id."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
DENSE = 10_000_000  # ids below it are looked up in a plain table, 40 times faster than by binary search (40 MB at most)

_ARROW = {
    "bool": pa.bool_(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "timestamp[s, tz=UTC]": pa.timestamp("s", "UTC"),
}


def int64s(column: pa.ChunkedArray) -> Int64s:
    """A null-free int64 column as numpy, without a copy where it is one chunk (`to_numpy` would import pandas)."""
    chunks = [np.frombuffer(c.buffers()[1], np.int64, len(c), c.offset * 8) for c in column.chunks if len(c)]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.int64), *chunks])


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column of strings as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], pa.string()), *column.chunks])


def lookup(ids: Int64s, keys: Int64s) -> Int32s:
    """Position of each key in sorted unique ids, -1 where it is not."""
    if not len(ids) or not len(keys):
        return np.full(len(keys), -1, np.int32)
    if ids[0] >= 0 and ids[-1] < DENSE and len(keys) > len(ids) // 32:  # for a few the table does not pay
        table = np.full(int(ids[-1]) + 2, -1, np.int32)
        table[ids] = np.arange(len(ids), dtype=np.int32)
        return table[np.where((keys < 0) | (keys > ids[-1]), len(table) - 1, keys)]
    place = np.minimum(np.searchsorted(ids, keys), len(ids) - 1)
    return np.where(ids[place] == keys, place, -1).astype(np.int32)


def arrow_schema(columns: Mapping[str, Any]) -> pa.Schema:
    """The schema of tables with these columns: that which `datasets` has for them."""
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
