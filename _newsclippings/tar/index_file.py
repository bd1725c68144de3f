"""The index of a tar as a Parquet file, for use on other machines: names, positions and the identity of the tar.

Such a file may come from anyone. The sizes in its footer are compared with the size of the file before any member is
read. Then only the known columns are read, a few thousand members at a time.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from _newsclippings.errors import BadFileError, BadTarError, NewsCLIPpingsError, bad_file
from _newsclippings.storage import (
    INDEX,
    Access,
    BadNameError,
    Footer,
    Place,
    RandomFile,
    changed_file,
    local_copy,
    normalise_paths,
    read_footer,
    write_atomically,
)
from _newsclippings.tables import int64s, one_chunk, values_of
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import TarIndex, identify_tar, index_schema, keep_index, load_kept_index, sort_keys
from _newsclippings.tar.links import REFUSED, TARGET
from _newsclippings.tar.members import other_tar
from _newsclippings.tar.walk import SCHEMA
from _newsclippings.text import option, printable, without_secrets

INDEX_MOST = 256 << 20  # bytes of an index; the 1.3 million files of VisualNews take a tenth of it
IDENTITY = ("tar_size", "head_sha256", "tail_sha256")
DIGEST = "members_xxh3"  # metadata key: XXH3-128 of the members and of the other metadata
COLUMNS = "columns"  # metadata key: names of the columns beyond those of `SCHEMA`; absent if there are none
MAX_FOOTER = 256 << 10  # bytes, each of which may take 1,000 in memory; `write_index` makes 1,000 per row group
MAX_LIST = 1000  # row groups, columns, or levels of nesting; `write_index` makes a row group per 1,048,576 members
MAX_NAMES = 1 << 29  # bytes of all names together
BATCH = 2048  # members read together
_LITTLE = {pa.int64(): "<i8", pa.uint32(): "<u4"}
_TEXTS = ("name", TARGET.name, REFUSED.name)
_DO = "Make it with `newsclippings index`, or leave visual_news_index out."


def load_given_index(
    location: str, file: RandomFile, key: str, folder: Path, is_unchanged: Callable[[], bool], access: Access
) -> TarIndex:
    """Load an index that was made with `newsclippings index`.

    Args:
        location: path or URL of the Parquet file.
        file: the tar.
        key: `identity` of the Parquet file.
        folder: where indexes are kept.
        is_unchanged: checks whether the Parquet file is what it was when `key` was computed.
        access: what the user passed to reach a URL.

    Raises:
        BadFileError: the file is no index, or changed.
        BadTarError: it is the index of a tar of another size. The ends are not compared; see `check_ends`.
    """
    cached, shown = folder / f"given-{key}.arrow", without_secrets(location)
    index = load_kept_index(cached, cached.name)
    if index is None:
        table = read_index(local_copy(location, folder / "downloads", INDEX_MOST, access), shown)
        if not is_unchanged():
            raise changed_file(shown)
        index = keep_index(table, cached, shown, of=cached.name)
    size = int(index.metadata["tar_size"])
    if file.size < size and index.metadata["head_sha256"] == identify_tar(file)["head_sha256"]:
        message = (
            f"{file.path}: the tar has {file.size:,} of the {size:,} bytes that were indexed in {shown}: the "
            "download is not complete. Fetch the rest, or leave visual_news_index out to use the part that is there "
            f"with {option('missing', 'null')} or {option('missing', 'drop_pair')}."
        )
        raise BadTarError(message)
    if file.size != size:
        raise other_tar(shown, file.path, f"a tar of {size:,} bytes", f"one of {file.size:,} bytes")
    return replace(index, location=shown, kept=None)


def check_ends(index: TarIndex, file: RandomFile) -> None:
    """Raise `BadTarError` if a tar does not begin or end as the one of an index that was given."""
    if any(index.metadata[name] != value for name, value in identify_tar(file).items()):
        expected = "the first and last 64 KiB of the tar that was indexed"
        raise other_tar(index.location, file.path, expected, "others")


def write_index(table: pa.Table, out: Place) -> None:
    """Write the index of a tar as Parquet.

    Args:
        table: the index, see `index_tar`.
        out: the file to write.
    """
    import pyarrow.parquet as pq

    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if more := table.column_names[len(SCHEMA) :]:
        metadata[COLUMNS] = " ".join(more)
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
    keys = sort_keys(table["name"])[0]
    if (keys[1:] == keys[:-1]).any() and pc.count_distinct(names).as_py() < len(names):
        raise bad_file(location, "one place for each name", "a name with several", _DO)
    digest = metadata.pop(DIGEST, None)
    if digest is not None and digest != _digest(table, metadata):
        message = f"{location}: the index is damaged: its checksum is wrong. Fetch it again, or make it again."
        raise BadFileError(message)
    metadata.pop(COLUMNS, None)
    return table.replace_schema_metadata(metadata)


def _read_members(path: str, location: str) -> pa.Table:
    """Read the columns of an index in the right types, with all metadata."""
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
    schema = index_schema(metadata.get(COLUMNS.encode(), b"").decode().split())
    if schema != SCHEMA:
        footer = read_footer(path, location, schema.names, MAX_FOOTER, _DO)
    coded = _check_sizes(footer, os.path.getsize(path), location)
    options: dict[str, Any] = {"thrift_string_size_limit": 1 << 20, "thrift_container_size_limit": MAX_LIST}
    if coded:  # keep names of dictionaries as indices until their lengths are checked
        options["read_dictionary"] = coded
    with pa.OSFile(path) as source:  # pyarrow takes some paths for URIs
        opened = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False, **options)
        table = pa.Table.from_batches(_batches(opened, footer.rows, location, schema), schema).combine_chunks()
    if len(table) != footer.rows:
        raise bad_file(location, f"{footer.rows:,} members, as its footer says", f"{len(table):,}", _DO)
    table.validate(full=True)  # a string column of Parquet may hold bytes that are not UTF-8
    if any(table[name].null_count for name in SCHEMA.names) or not len(table):
        raise bad_file(location, "a name and a place for each member", "some without, or no member", _DO)
    return table.replace_schema_metadata(metadata)


def _check_sizes(footer: Footer, size: int, location: str) -> list[str]:
    """Refuse a file that claims to hold more than an index of its size can.

    Args:
        footer: of the file.
        size: of the file, in bytes.
        location: of the file, for errors.

    Returns:
        The columns of texts of which any are stored in dictionaries.
    """
    rows = footer.rows
    if rows > size // 3:  # the checksums of headers alone take four bytes per member, and cannot be compressed
        raise _too_much(location, "members", rows, "an index of its size can have")
    for name in footer.groups[0] if footer.groups else []:
        count = sum(group[name].unpacked for group in footer.groups)
        if count > (_most_names(rows) if name in _TEXTS else (1 << 20) + 64 * rows):
            raise _too_much(location, f"bytes of {name}", count, "an index of so many members can have")
    return [name for name in _TEXTS if any(name in group and group[name].coded for group in footer.groups)]


def _most_names(rows: int) -> int:
    """Most bytes that the names of `rows` members may have together."""
    return min(MAX_NAMES, (64 << 20) + 4096 * rows)


def _batches(opened: Any, rows: int, location: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield members in the right types, `BATCH` at a time; stop with an error if their texts are too long."""
    most = _most_names(rows)
    for batch in opened.iter_batches(BATCH, columns=schema.names, use_threads=False):
        columns = [batch.column(batch.schema.get_field_index(name)) for name in schema.names]
        for k, field in enumerate(schema):
            texts = columns[k]
            if not pa.types.is_string(field.type):
                if not pa.types.is_integer(texts.type):
                    raise bad_file(location, "places that are integers", str(texts.type)[:200], _DO)
                continue
            if pa.types.is_dictionary(texts.type):
                lengths = values_of(pc.binary_length(texts.dictionary), 0).astype(np.int64)
                used = values_of(pc.drop_null(texts.indices))
                most -= int(lengths[used].sum()) if len(lengths) else 0
            else:
                most -= texts.nbytes
            if most < 0:
                raise bad_file(location, "names of the members of a tar", "longer ones than any tar has", _DO)
            if pa.types.is_dictionary(texts.type):
                columns[k] = texts = texts.dictionary.take(texts.indices)
            if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
                raise bad_file(location, "names that are strings", str(texts.type)[:200], _DO)
        cast = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(cast, schema=schema)


def _digest(table: pa.Table, metadata: dict[str, str]) -> str:
    """XXH3-128 of the members and the metadata, in hexadecimal."""
    digest = xxhash.xxh3_128()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for field in table.schema:
        if pa.types.is_string(field.type):
            _add_texts(digest, one_chunk(table[field.name]))
        else:
            digest.update(values_of(table[field.name]).astype(_LITTLE[field.type]).tobytes())
    return digest.hexdigest()


def _add_texts(digest: xxhash.xxh3_128, texts: pa.Array) -> None:
    if texts.null_count:
        digest.update(np.packbits(values_of(texts.is_valid())).tobytes())
        texts = pc.coalesce(texts, "")
    bounds = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4)
    digest.update(np.diff(bounds).astype("<i4").tobytes())
    if bounds[-1] > bounds[0]:
        digest.update(texts.buffers()[2].slice(int(bounds[0]), int(bounds[-1] - bounds[0])))


def _too_much(location: str, what: str, count: int, limit: str) -> NewsCLIPpingsError:
    return bad_file(location, f"no more {what} than {limit}", f"{count:,}", _DO)
