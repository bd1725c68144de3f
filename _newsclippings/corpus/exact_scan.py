"""The VisualNews records that the matches speak of: caption, picture, outlet and topic, by id."""

from collections.abc import Callable

import pyarrow as pa

from _newsclippings.corpus.records import pick_records
from _newsclippings.errors import UnsafePathError
from _newsclippings.storage import BadNameError, Stream, normalise_paths
from _newsclippings.tables import Int64s, int64s, one_chunk

PATHS = ("image_path", "article_path")
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
    """The fields of a record: `SCHEMA`, and the path of the article if articles are asked for."""
    return SCHEMA.append(pa.field("article_path", pa.string())) if articles else SCHEMA


def read_corpus(open_file: Callable[[], Stream], location: str, wanted: Int64s, articles: bool = False) -> pa.Table:
    """Read the wanted records of data.json (a list) or metadata/<split>.json (a table by id).

    Args:
        open_file: opens the file for reading bytes from its start; called once for each pass.
        location: what to call it in errors.
        wanted: ids, sorted and unique.
        articles: whether the path of the article is asked for.

    Returns:
        Arrow table of `corpus_schema`, sorted by id, with paths relative to origin; unknown ids have no row.

    Raises:
        BadFileError: the file is malformed, has an id twice, or a wanted record lacks a field.
        UnsafePathError: a wanted record names a file by a path that could leave the tree.
    """
    return with_normal_paths(pick_records(open_file, location, wanted, corpus_schema(articles)), location)


def with_normal_paths(table: pa.Table, location: str) -> pa.Table:
    """The table with its paths in the normal form.

    Raises:
        UnsafePathError: one of them could leave the tree.
    """
    for column, name in enumerate(table.column_names):
        if name in PATHS:
            paths = one_chunk(table[name])
            try:
                table = table.set_column(column, name, normalise_paths(paths))
            except BadNameError as error:
                record = int(int64s(table["id"])[error.position])
                message = (
                    f"{location}: record {record}: {name} {_quoted(paths[error.position].as_py())} was refused: "
                    f"{error.why}. Expected a path relative to origin, such as './guardian/images/0540/632.jpg'. Get a "
                    "fresh copy of the file from its authors."
                )
                raise UnsafePathError(message) from None
    return table.combine_chunks()


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
