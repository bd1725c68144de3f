"""Columns of Arrow tables as one array, of numpy or of Arrow."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]


def int64s(column: pa.ChunkedArray) -> Int64s:
    """A null-free int64 column as numpy, without a copy where it is one chunk (`to_numpy` would import pandas)."""
    chunks = [np.frombuffer(c.buffers()[1], np.int64, len(c), c.offset * 8) for c in column.chunks if len(c)]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.int64), *chunks])


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column of strings as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], pa.string()), *column.chunks])
