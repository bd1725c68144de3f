"""A tar's index as a Parquet file that can be given to others: names, places and the tar's identity, no pixels.

Such a file may come from anyone. What its footer says of its size is compared with the size of the file before any
member is read, and only the four columns are, a few thousand members at a time.
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

from _newsclippings.errors import NewsCLIPpingsError, bad_file
from _newsclippings.storage import (
    INDEX,
    BadName,
    Footer,
    RandomFile,
    local_copy,
    read_footer,
    relative_paths,
    write_atomically,
)
from _newsclippings.tables import int64s, one_chunk, values_of
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import TarIndex, identity, keep, load_kept, sorted_keys
from _newsclippings.tar.members import other_tar
from _newsclippings.tar.segment import SCHEMA
from _newsclippings.text import printable, without_secrets

INDEX_MOST = 256 << 20  # bytes of an index; one of the 1.3 million files of VisualNews has a tenth of it
IDENTITY = ("tar_size", "head_sha256", "tail_sha256")
DIGEST = "members_xxh3"  # in the metadata: XXH3-128 of the members and of the other metadata
MAX_FOOTER = 256 << 10  # bytes: read, each may take a thousand; ours has 1,000 for each row group
MAX_LIST = 1000  # row groups, columns, or levels of nesting; ours have a row group for each 1,048,576 members
MAX_NAMES = 1 << 29  # bytes of all names
BATCH = 2048  # members that are read together
_DO = "Make it with `newsclippings index`, or leave visual_news_index out."


def load_given_index(location: str, file: RandomFile, key: str, folder: Path) -> TarIndex:
    """An index that somebody made with `newsclippings index`.

    Args:
        location: the Parquet file, or a URL of one.
        file: the tar that it is for.
        key: fingerprint of the Parquet file.
        folder: where indexes are kept.

    Raises:
        BadFileError: the file is no index.
        BadTarError: it is the index of another tar.
    """
    cached, shown = folder / f"given-{key}.arrow", without_secrets(location)
    index = load_kept(cached, cached.name)
    if index is None:
        table = read_index(local_copy(location, folder / "downloads", INDEX_MOST), shown)
        index = keep(table, cached, shown, of=cached.name)
    about, found = index.members.schema.metadata or {}, identity(file)
    if any(about.get(name.encode(), b"").decode() != value for name, value in found.items()):
        size = int(about[b"tar_size"])
        if size != file.size:
            raise other_tar(shown, file.path, f"a tar of {size:,} bytes", f"one of {file.size:,} bytes")
        raise other_tar(shown, file.path, "the first and last 64 KiB of the tar that was indexed", "others")
    return replace(index, location=shown, kept=None)


def write_index(table: pa.Table, out: Path, tar: str) -> None:
    """Write the index of a tar as Parquet, for others.

    Raises:
        BadTarError: a member is there twice.
    """
    import pyarrow.parquet as pq

    sorted_keys(table["name"], tar)  # nobody could use an index with a name twice
    about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    table = table.replace_schema_metadata({**about, DIGEST: _digest(table, about)})
    codes = {"name": "DELTA_BYTE_ARRAY", "offset": "DELTA_BINARY_PACKED", "size": "DELTA_BINARY_PACKED"}
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": codes, "write_page_checksum": True}
    with write_atomically(out, INDEX) as temporary, open(temporary, "wb") as sink:  # a name may look like a URI
        pq.write_table(table, sink, compression="zstd", **options)


def read_index(path: str, location: str) -> pa.Table:
    """Read an index that may come from anyone; see `walk` for the table.

    Raises:
        BadFileError: it is none: no Parquet, other columns, no identity, places outside the tar, names twice or not in
            the normal form; or more than an index can have; or it is damaged.
    """
    try:
        table = _read_members(path, location)
    except NewsCLIPpingsError:
        raise
    except MemoryError:
        raise bad_file(location, "an index of a tar", "a file that takes more memory than there is", _DO) from None
    except Exception as error:  # whatever pyarrow raises of foreign bytes
        found = printable(" ".join(str(error).split())[:200])
        raise bad_file(location, f"an index of a tar ({', '.join(SCHEMA.names)})", found, _DO) from None
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    offset, size = int64s(table["offset"]), int64s(table["size"])
    outside = (offset < BLOCK) | (size < 0) | (size > int(about["tar_size"])) | (offset > int(about["tar_size"]) - size)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        found = f"{printable(table['name'][row].as_py()[:200])} at byte {offset[row]}"
        raise bad_file(location, "places inside the tar", found, _DO)
    names = one_chunk(table["name"])
    try:
        odd = not relative_paths(names).equals(names)
    except BadName as error:
        found = f"{names[error.position].as_py()[:200]!r}: {error.why}"
        raise bad_file(location, "names below origin/", found, _DO) from None
    if odd:
        raise bad_file(location, "names relative to origin", "some with its prefix", _DO)
    digest = about.pop(DIGEST, None)
    if digest is not None and digest != _digest(table, about):
        found = "others: it is damaged"
        raise bad_file(location, "the members that were written to it", found, "Fetch it again, or make it again.")
    return table.replace_schema_metadata(about)


def _read_members(path: str, location: str) -> pa.Table:
    """The four columns of an index in the right types, and all of its metadata."""
    import pyarrow.parquet as pq

    footer = read_footer(path, location, SCHEMA.names, MAX_FOOTER, _DO)
    about = {key: value for key, value in footer.metadata.items() if key != b"ARROW:schema"}
    if not {name.encode() for name in IDENTITY} <= set(about) or not re.fullmatch(rb"\d{1,18}", about[b"tar_size"]):
        expected = f"the identity of the tar ({', '.join(IDENTITY)})"
        raise bad_file(location, expected, "none in its metadata", _DO)
    if footer.rows > int(about[b"tar_size"]) // BLOCK:
        raise _too_much(location, "members", footer.rows, "has room for in its tar")
    for text in (*about, *about.values()):
        text.decode()
    coded = _check_sizes(footer, os.path.getsize(path), location)
    options: dict[str, Any] = {"thrift_string_size_limit": 1 << 20, "thrift_container_size_limit": MAX_LIST}
    if coded:  # such names are not repeated in memory before somebody has looked how long they are
        options["read_dictionary"] = ["name"]
    with pa.OSFile(path) as source:  # a path could be taken for an address
        opened = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False, **options)
        table = pa.Table.from_batches(_batches(opened, footer.rows, location), SCHEMA).combine_chunks()
    if len(table) != footer.rows:
        raise bad_file(location, f"{footer.rows:,} members, as its footer says", f"{len(table):,}", _DO)
    table.validate(full=True)  # Parquet does not say that a string is one
    if any(table[name].null_count for name in SCHEMA.names) or not len(table):
        raise bad_file(location, "a name and a place for each member", "some without, or no member", _DO)
    return table.replace_schema_metadata(about)


def _check_sizes(footer: Footer, size: int, location: str) -> bool:
    """Refuse what claims to hold more than an index of its size can; whether some names are in dictionaries.

    Args:
        footer: of the file.
        size: bytes of the file.
        location: of the file, for errors.
    """
    rows = footer.rows
    if rows > size // 3:  # the checksums of the headers alone take four bytes each, however they are compressed
        raise _too_much(location, "members", rows, "of so many bytes has")
    for name in SCHEMA.names:
        count = sum(group[name].unpacked for group in footer.groups)
        if count > (_most_names(rows) if name == "name" else (1 << 20) + 64 * rows):
            raise _too_much(location, f"bytes of {name}", count, "of so many members has")
    return any(group["name"].coded for group in footer.groups)


def _most_names(rows: int) -> int:
    """Bytes that the names of some members may have together."""
    return min(MAX_NAMES, (64 << 20) + 4096 * rows)


def _batches(opened: Any, rows: int, location: str) -> Iterator[pa.RecordBatch]:
    """The members in the right types, `BATCH` at a time, until their names are longer than those of any tar."""
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
        right = [one.cast(field.type) for one, field in zip([names, *columns[1:]], SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(right, schema=SCHEMA)


def _digest(table: pa.Table, about: dict[str, str]) -> str:
    """XXH3-128 of members and of what is said of their tar, in hexadecimal."""
    names = one_chunk(table["name"])
    bounds = np.frombuffer(names.buffers()[1], np.int32, len(names) + 1, names.offset * 4)
    digest = xxhash.xxh3_128()
    for key in sorted(about):
        digest.update(f"{key}={about[key]}\n".encode())
    digest.update(np.diff(bounds).astype("<i4").tobytes())
    digest.update(names.buffers()[2].slice(int(bounds[0]), int(bounds[-1] - bounds[0])))
    for name, kind in (("offset", "<i8"), ("size", "<i8"), ("header_crc", "<u4")):
        digest.update(values_of(table[name]).astype(kind).tobytes())
    return digest.hexdigest()


def _too_much(location: str, what: str, count: int, than: str) -> NewsCLIPpingsError:
    return bad_file(location, f"no more {what} than an index {than}", f"{count:,}", _DO)
