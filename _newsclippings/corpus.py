"""The VisualNews records that the matches speak of: caption, picture, outlet and topic, by id."""

from collections.abc import Callable

import pyarrow as pa

from _newsclippings.errors import unsafe_path
from _newsclippings.files import Stream
from _newsclippings.paths import BadName, relative_paths
from _newsclippings.record_scan import Int64s, int64s
from _newsclippings.records import pick_records

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("caption", pa.string()),
        ("image_path", pa.string()),
        ("source", pa.string()),
        ("topic", pa.string()),
    ]
)


def read_corpus(open_file: Callable[[], Stream], location: str, wanted: Int64s) -> pa.Table:
    """Read the wanted records of data.json (a list) or metadata/<split>.json (a table by id).

    Args:
        open_file: opens the file anew, for reading bytes from its start.
        location: what to call it in errors.
        wanted: ids, sorted and unique.

    Returns:
        Arrow table of `SCHEMA`, sorted by id, with `image_path` relative to origin; unknown ids have no row.

    Raises:
        BadFileError: the file is malformed, has an id twice, or a wanted record lacks a field.
        UnsafePathError: a wanted record names its picture by a path that could leave the picture tree.
    """
    table = pick_records(open_file, location, wanted, SCHEMA).combine_chunks()
    column = SCHEMA.get_field_index("image_path")
    names = pa.concat_arrays(table["image_path"].chunks or [pa.array([], pa.string())])
    try:
        return table.set_column(column, "image_path", relative_paths(names))
    except BadName as error:
        record = int(int64s(table["id"])[error.position])
        raise unsafe_path(location, record, names[error.position].as_py(), error.why) from None
