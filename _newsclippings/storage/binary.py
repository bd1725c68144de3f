"""Many files read into one Arrow array."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import bad_file

MAX_FILE = 256 << 20  # bytes of a picture or an article: a picture of 64 million pixels has 192 MB without compression
Rows = npt.NDArray[np.int32]


def read_binary_array(
    location: str,
    paths: pa.Array,
    rows: Rows,
    sizes: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    read_some: Callable[[Rows, list[memoryview]], None],
) -> pa.Array:
    """Read pictures into one buffer, which becomes the Arrow array without a copy; one that is there twice, once."""
    there = rows >= 0
    there[there] = present[rows[there]]
    lengths = np.zeros(len(rows), np.int64)
    lengths[there] = sizes[rows[there]]
    if (largest := int(lengths.max(initial=0))) > MAX_FILE:
        name = paths[int(rows[lengths.argmax()])].as_py()
        do = "Nothing that large is a picture or an article: look what it is."
        raise bad_file(location, f"files of at most {MAX_FILE:,} bytes", f"{name} of {largest:,}", do)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] >= 1 << 31:
        raise bad_file(location, f"{len(rows)} pictures of less than 2 GiB together", f"{offsets[-1]:,} bytes")
    offsets = offsets.astype(np.int32)
    try:
        buffer = pa.allocate_buffer(int(offsets[-1]))
    except MemoryError:
        found = f"{offsets[-1]:,} bytes"
        raise bad_file(location, f"{len(rows)} pictures that fit into memory", found, "Use more of it.") from None
    view = memoryview(buffer).cast("B")
    todo = np.flatnonzero(there)
    unique, first, which = np.unique(rows[todo], return_index=True, return_inverse=True)
    if len(todo):
        read_some(unique, [view[offsets[k] : offsets[k + 1]] for k in todo[first].tolist()])
    for k, original in zip(todo.tolist(), todo[first][which].tolist(), strict=True):
        if k != original:
            view[offsets[k] : offsets[k + 1]] = view[offsets[original] : offsets[original + 1]]
    validity = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(), len(rows), [validity, pa.py_buffer(offsets), buffer])
