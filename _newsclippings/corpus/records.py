"""Records of VisualNews from a large JSON file: caption, picture, outlet and topic by id, in bounded memory.

Two layouts are read: a list of records (`[{"id": 1, ...}, ...]`, data.json) and an object of records by id
(`{"1": {"id": 1, ...}, ...}`, metadata). The fast scan decodes only the wanted records. If it cannot prove that it
found each of them, the exact scan decodes every record, and explains what is wrong with the file.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from _newsclippings.corpus.exact_scan import scan_exactly
from _newsclippings.corpus.fast_scan import MakeTable, scan_fast
from _newsclippings.errors import UnsafePathError
from _newsclippings.storage import BadNameError, Stream, normalise_paths
from _newsclippings.tables import Int64s, as_array, empty_table, int64s, one_chunk

PATHS = ("image_path", "article_path")
_PATH = (
    "a path relative to origin, such as './guardian/images/0540/632.jpg'. "
    "Get a fresh copy of the file from its authors."
)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("caption", pa.string()),
        ("image_path", pa.string()),
        ("source", pa.string()),
        ("topic", pa.string()),
    ]
)


def corpus_schema(articles: bool) -> pa.Schema:
    """Return the fields of a record: `SCHEMA` and, for articles, `article_path`."""
    return SCHEMA.append(pa.field("article_path", pa.string())) if articles else SCHEMA


def read_corpus(
    open_file: Callable[[], Stream], location: str, wanted: Int64s | None, articles: bool = False
) -> pa.Table:
    """Read the wanted records of data.json (a list) or metadata/<split>.json (an object of records by id).

    Args:
        open_file: opens the file for reading bytes from its start; called for each scan.
        location: the name of the file in errors.
        wanted: int64 (N,), ids, sorted and unique; None for all.
        articles: whether to read the paths of articles.

    Returns:
        Arrow table of `corpus_schema`, sorted by id, with paths relative to origin. An id that is not in the file has
        no row.

    Raises:
        BadFileError: the file is malformed, has an id twice, or a wanted record lacks a field.
        UnsafePathError: a wanted record names a file by a path that could leave the tree.
    """
    return with_normal_paths(pick_records(open_file, location, wanted, corpus_schema(articles)), location)


def pick_records(
    open_file: Callable[[], Stream],
    location: str,
    wanted: Int64s | None,
    schema: pa.Schema,
    make_table: MakeTable | None = None,
    as_in_file: bool = False,
) -> pa.Table:
    """Read the wanted records of a file.

    Args:
        open_file: opens the file for reading bytes from its start; called for each scan.
        location: the name of the file in errors.
        wanted: int64 (N,), ids, sorted and unique; None for all.
        schema: the fields to read, `id` (int64) first; the others are strings that every wanted record must have.
        make_table: makes a table of decoded records, with the columns of `schema` and others. Default: only `schema`.
        as_in_file: whether all records (`wanted` is None) are in the order of the file.

    Returns:
        Arrow table sorted by id, if not `as_in_file`. An id that is not in the file has no row.

    Raises:
        BadFileError: the file is not JSON in one of the two layouts, ends early, has an id twice, or a wanted record
            lacks a field.
    """
    table = None
    if wanted is not None:
        if not len(wanted):
            return make_table([]) if make_table else empty_table(schema)
        with open_file() as stream:
            table = scan_fast(stream, wanted, schema, make_table)
    if table is None:
        with open_file() as stream:
            table = scan_exactly(stream, location, wanted, schema, make_table)
    if as_in_file:
        return table
    order = np.argsort(int64s(table["id"]), kind="stable")
    return table if (np.diff(order) == 1).all() else table.take(as_array(order))


def with_normal_paths(table: pa.Table, location: str, expected: str = _PATH) -> pa.Table:
    """Return the table with its paths in the normal form; `expected` ends the error of one that has none.

    Raises:
        UnsafePathError: a path could leave the tree.
    """
    for column, name in enumerate(table.column_names):
        if name in PATHS:
            paths = one_chunk(table[name])
            try:
                table = table.set_column(column, name, normalise_paths(paths))
            except BadNameError as error:
                raise refused_path(location, table["id"], name, paths, error, expected) from None
    return table.combine_chunks()


def refused_path(
    location: str, ids: pa.ChunkedArray, name: str, paths: pa.Array, error: BadNameError, expected: str = _PATH
) -> UnsafePathError:
    """Make the error of a path that could leave the tree; `ids` and `paths` are columns of the records."""
    record, path = int(int64s(ids)[error.position]), repr(paths[error.position].as_py())
    path = path if len(path) <= 120 else path[:117] + "..."
    return UnsafePathError(f"{location}: record {record}: {name} {path} was refused: {error.why}. Expected {expected}")
