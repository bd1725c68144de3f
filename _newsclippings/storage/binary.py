"""Read many files into one Arrow array."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import BadFileError, bad_file

MAX_FILE = 256 << 20  # bytes of a picture or an article; uncompressed, 64 million pixels have 192 MB
Rows = npt.NDArray[np.int32]


def read_binary_array(
    location: str,
    paths: pa.Array,
    rows: Rows,
    sizes: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    read_some: Callable[[Rows, list[memoryview]], None],
) -> pa.Array:
    """Read files into one buffer, which becomes an Arrow array without a copy. A repeated file is read only once.

    Args:
        location: the folder or tar that has them, for errors.
        paths: string (R,), the name of each record's file, for errors.
        rows: int32 (N,), the record of each value of the array; -1 for null.
        sizes: int64 (R,), bytes of each file.
        present: bool (R,), whether the file exists; null if not.
        read_some: reads the files of records, int32 (M,), into buffers of their sizes.

    Returns:
        The contents, binary (N,).

    Raises:
        BadFileError: a file is too large, or all together have 2 GiB or do not fit into memory.
    """
    valid = rows >= 0
    valid[valid] = present[rows[valid]]
    lengths = np.zeros(len(rows), np.int64)
    lengths[valid] = sizes[rows[valid]]
    if (largest := int(lengths.max(initial=0))) > MAX_FILE:
        name = paths[int(rows[lengths.argmax()])].as_py()
        do = "No picture or article is that large: check what it is."
        raise bad_file(location, f"files of at most {MAX_FILE:,} bytes", f"{name} of {largest:,}", do)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] >= 1 << 31:
        raise bad_file(location, f"{len(rows)} pictures of less than 2 GiB together", f"{offsets[-1]:,} bytes")
    offsets = offsets.astype(np.int32)
    try:
        buffer = pa.allocate_buffer(int(offsets[-1]))
    except MemoryError:
        message = (
            f"{location}: {len(rows)} pictures of {offsets[-1]:,} bytes do not fit into memory. Use a larger machine."
        )
        raise BadFileError(message) from None
    view = memoryview(buffer).cast("B")
    todo = np.flatnonzero(valid)
    unique, first, which = np.unique(rows[todo], return_index=True, return_inverse=True)
    if len(todo):
        read_some(unique, [view[offsets[k] : offsets[k + 1]] for k in todo[first].tolist()])
    for k, original in zip(todo.tolist(), todo[first][which].tolist(), strict=True):
        if k != original:
            view[offsets[k] : offsets[k + 1]] = view[offsets[original] : offsets[original + 1]]
    validity = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(), len(rows), [validity, pa.py_buffer(offsets), buffer])
