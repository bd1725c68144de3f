"""The index of a tar as a Parquet file, for use on other machines: names, positions and the identity of the tar.

Such a file may come from anyone. The sizes in its footer are compared with the size of the file before any member is
read. Then only the four columns are read, a few thousand members at a time.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from _newsclippings.errors import BadFileError, NewsCLIPpingsError, bad_file
from _newsclippings.storage import (
    INDEX,
    BadNameError,
    Footer,
    Place,
    RandomFile,
    local_copy,
    normalise_paths,
    read_footer,
    write_atomically,
)
from _newsclippings.tables import int64s, one_chunk, values_of
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import TarIndex, identify_tar, keep_index, load_kept_index, sort_keys
from _newsclippings.tar.members import other_tar
from _newsclippings.tar.walk import SCHEMA
from _newsclippings.text import printable, without_secrets

INDEX_MOST = 256 << 20  # bytes of an index; the 1.3 million files of VisualNews take a tenth of it
IDENTITY = ("tar_size", "head_sha256", "tail_sha256")
DIGEST = "members_xxh3"  # metadata key: XXH3-128 of the members and of the other metadata
MAX_FOOTER = 256 << 10  # bytes, each of which may take 1,000 in memory; `write_index` makes 1,000 per row group
MAX_LIST = 1000  # row groups, columns, or levels of nesting; `write_index` makes a row group per 1,048,576 members
MAX_NAMES = 1 << 29  # bytes of all names together
BATCH = 2048  # members read together
_DO = "Make it with `newsclippings index`, or leave visual_news_index out."


def load_given_index(location: str, file: RandomFile, key: str, folder: Path) -> TarIndex:
    """Load an index that was made with `newsclippings index`.

    Args:
        location: path or URL of the Parquet file.
        file: the tar.
        key: `identity` of the Parquet file.
        folder: where indexes are kept.

    Raises:
        BadFileError: the file is no index.
        BadTarError: it is the index of another tar.
    """
    cached, shown = folder / f"given-{key}.arrow", without_secrets(location)
    index = load_kept_index(cached, cached.name)
    if index is None:
        table = read_index(local_copy(location, folder / "downloads", INDEX_MOST), shown)
        index = keep_index(table, cached, shown, of=cached.name)
    metadata, actual = index.members.schema.metadata or {}, identify_tar(file)
    if any(metadata.get(name.encode(), b"").decode() != value for name, value in actual.items()):
        size = int(metadata[b"tar_size"])
        if size != file.size:
            raise other_tar(shown, file.path, f"a tar of {size:,} bytes", f"one of {file.size:,} bytes")
        raise other_tar(shown, file.path, "the first and last 64 KiB of the tar that was indexed", "others")
    return replace(index, location=shown, kept=None)


def write_index(table: pa.Table, out: Place, tar: str) -> None:
    """Write the index of a tar as Parquet.

    Args:
        table: the index, see `index_tar`.
        out: the file to write.
        tar: path of the tar, for errors.

    Raises:
        BadTarError: two members have the same name.
    """
    import pyarrow.parquet as pq

    sort_keys(table["name"], tar)  # raises if two members have the same name
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    table = table.replace_schema_metadata({**metadata, DIGEST: _digest(table, metadata)})
    encodings = {"name": "DELTA_BYTE_ARRAY", "offset": "DELTA_BINARY_PACKED", "size": "DELTA_BINARY_PACKED"}
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": encodings, "write_page_checksum": True}
    # an open file, since pyarrow takes some paths for URIs
    with write_atomically(out, INDEX) as temporary, open(temporary, "wb") as sink:
        pq.write_table(table, sink, compression="zstd", **options)


def read_index(path: str, location: str) -> pa.Table:
    """Read an index that may come from anyone.

    Args:
        path: the Parquet file.
        location: where it comes from, for errors.

    Returns:
        The index, see `index_tar`.

    Raises:
        BadFileError: the file is not Parquet, has other columns, does not identify its tar, has positions outside the
            tar, names that are not in the normal form or more rows than an index can have, or is damaged.
    """
    try:
        table = _read_members(path, location)
    except NewsCLIPpingsError:
        raise
    except MemoryError:
        raise bad_file(location, "an index of a tar", "a file that takes more memory than there is", _DO) from None
    except Exception as error:  # pyarrow raises errors of many types for files it cannot read
        what = printable(" ".join(str(error).split())[:200])
        raise bad_file(location, f"an index of a tar ({', '.join(SCHEMA.names)})", what, _DO) from None
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    offset, size, tar_size = int64s(table["offset"]), int64s(table["size"]), int(metadata["tar_size"])
    outside = (offset < BLOCK) | (size < 0) | (size > tar_size) | (offset > tar_size - size)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        what = f"{printable(table['name'][row].as_py()[:200])} at byte {offset[row]}"
        raise bad_file(location, "places inside the tar", what, _DO)
    names = one_chunk(table["name"])
    try:
        has_prefix = not normalise_paths(names).equals(names)
    except BadNameError as error:
        what = f"{names[error.position].as_py()[:200]!r}: {error.why}"
        raise bad_file(location, "names below origin/", what, _DO) from None
    if has_prefix:
        raise bad_file(location, "names relative to origin", "some with its prefix", _DO)
    digest = metadata.pop(DIGEST, None)
    if digest is not None and digest != _digest(table, metadata):
        message = f"{location}: the index is damaged: its checksum is wrong. Fetch it again, or make it again."
        raise BadFileError(message)
    return table.replace_schema_metadata(metadata)


def _read_members(path: str, location: str) -> pa.Table:
    """Read the four columns of an index in the right types, with all metadata."""
    import pyarrow.parquet as pq

    footer = read_footer(path, location, SCHEMA.names, MAX_FOOTER, _DO)
    metadata = {key: value for key, value in footer.metadata.items() if key != b"ARROW:schema"}
    has_identity = {name.encode() for name in IDENTITY} <= set(metadata)
    if not has_identity or not re.fullmatch(rb"\d{1,18}", metadata[b"tar_size"]):
        expected = f"the identity of the tar ({', '.join(IDENTITY)})"
        raise bad_file(location, expected, "none in its metadata", _DO)
    if footer.rows > int(metadata[b"tar_size"]) // BLOCK:
        raise _too_much(location, "members", footer.rows, "that fit into its tar")
    for text in (*metadata, *metadata.values()):
        text.decode()
    coded = _check_sizes(footer, os.path.getsize(path), location)
    options: dict[str, Any] = {"thrift_string_size_limit": 1 << 20, "thrift_container_size_limit": MAX_LIST}
    if coded:  # keep names of dictionaries as indices until their lengths are checked
        options["read_dictionary"] = ["name"]
    with pa.OSFile(path) as source:  # pyarrow takes some paths for URIs
        opened = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False, **options)
        table = pa.Table.from_batches(_batches(opened, footer.rows, location), SCHEMA).combine_chunks()
    if len(table) != footer.rows:
        raise bad_file(location, f"{footer.rows:,} members, as its footer says", f"{len(table):,}", _DO)
    table.validate(full=True)  # a string column of Parquet may hold bytes that are not UTF-8
    if any(table[name].null_count for name in SCHEMA.names) or not len(table):
        raise bad_file(location, "a name and a place for each member", "some without, or no member", _DO)
    return table.replace_schema_metadata(metadata)


def _check_sizes(footer: Footer, size: int, location: str) -> bool:
    """Refuse a file that claims to hold more than an index of its size can.

    Args:
        footer: of the file.
        size: of the file, in bytes.
        location: of the file, for errors.

    Returns:
        Whether any names are stored in dictionaries.
    """
    rows = footer.rows
    if rows > size // 3:  # the checksums of headers alone take four bytes per member, and cannot be compressed
        raise _too_much(location, "members", rows, "an index of its size can have")
    for name in SCHEMA.names:
        count = sum(group[name].unpacked for group in footer.groups)
        if count > (_most_names(rows) if name == "name" else (1 << 20) + 64 * rows):
            raise _too_much(location, f"bytes of {name}", count, "an index of so many members can have")
    return any(group["name"].coded for group in footer.groups)


def _most_names(rows: int) -> int:
    """Most bytes that the names of `rows` members may have together."""
    return min(MAX_NAMES, (64 << 20) + 4096 * rows)


def _batches(opened: Any, rows: int, location: str) -> Iterator[pa.RecordBatch]:
    """Yield members in the right types, `BATCH` at a time; stop with an error if their names are too long."""
    most = _most_names(rows)
    for batch in opened.iter_batches(BATCH, columns=SCHEMA.names, use_threads=False):
        columns = [batch.column(batch.schema.get_field_index(name)) for name in SCHEMA.names]
        names = columns[0]
        if pa.types.is_dictionary(names.type):
            lengths = values_of(pc.binary_length(names.dictionary), 0).astype(np.int64)
            used = values_of(pc.drop_null(names.indices))
            count = int(lengths[used].sum()) if len(lengths) else 0
        else:
            count = names.nbytes
        most -= count
        if most < 0:
            raise bad_file(location, "names of the members of a tar", "longer ones than any tar has", _DO)
        if pa.types.is_dictionary(names.type):
            names = names.dictionary.take(names.indices)
        kinds = [names.type, *(column.type for column in columns[1:])]
        if not (pa.types.is_string(kinds[0]) or pa.types.is_large_string(kinds[0])):
            raise bad_file(location, "names that are strings", str(kinds[0])[:200], _DO)
        if not all(map(pa.types.is_integer, kinds[1:])):
            raise bad_file(location, "places that are integers", ", ".join(map(str, kinds[1:]))[:200], _DO)
        cast = [column.cast(field.type) for column, field in zip([names, *columns[1:]], SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(cast, schema=SCHEMA)


def _digest(table: pa.Table, metadata: dict[str, str]) -> str:
    """XXH3-128 of the members and the metadata, in hexadecimal."""
    names = one_chunk(table["name"])
    bounds = np.frombuffer(names.buffers()[1], np.int32, len(names) + 1, names.offset * 4)
    digest = xxhash.xxh3_128()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    digest.update(np.diff(bounds).astype("<i4").tobytes())
    digest.update(names.buffers()[2].slice(int(bounds[0]), int(bounds[-1] - bounds[0])))
    for name, kind in (("offset", "<i8"), ("size", "<i8"), ("header_crc", "<u4")):
        digest.update(values_of(table[name]).astype(kind).tobytes())
    return digest.hexdigest()


def _too_much(location: str, what: str, count: int, limit: str) -> NewsCLIPpingsError:
    return bad_file(location, f"no more {what} than {limit}", f"{count:,}", _DO)
