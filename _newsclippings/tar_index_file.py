"""A tar's index as a Parquet file that can be given to others: names, places and the tar's identity, no pixels."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from _newsclippings.arrow import int64s, one_chunk
from _newsclippings.downloads import local_copy
from _newsclippings.errors import bad_file, other_tar, without_secrets
from _newsclippings.files import write_atomically
from _newsclippings.local_file import RandomFile
from _newsclippings.outputs import INDEX
from _newsclippings.paths import BadName, relative_paths
from _newsclippings.tar_headers import BLOCK
from _newsclippings.tar_index import TarIndex, identity, keep, load_kept, sorted_keys
from _newsclippings.tar_segment import SCHEMA

INDEX_MOST = 1 << 30  # bytes of an index; that of VisualNews has a thirtieth of it
IDENTITY = ("tar_size", "head_sha256", "tail_sha256")


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
    index = load_kept(cached)
    if index is None:
        index = keep(read_index(local_copy(location, folder / "downloads", INDEX_MOST), shown), cached, shown)
    about, found = index.members.schema.metadata or {}, identity(file)
    if any(about.get(name.encode(), b"").decode() != value for name, value in found.items()):
        size = int(about[b"tar_size"])
        if size != file.size:
            raise other_tar(shown, file.path, f"a tar of {size:,} bytes", f"one of {file.size:,} bytes")
        raise other_tar(shown, file.path, "the first and last 64 KiB of the tar that was indexed", "others")
    return TarIndex(index.members, index.keys, index.rows, index.damage, shown)


def write_index(table: pa.Table, out: Path, tar: str) -> None:
    """Write the index of a tar as Parquet, for others.

    Raises:
        BadTarError: a member is there twice.
    """
    import pyarrow.parquet as pq

    sorted_keys(table["name"], tar)  # nobody could use an index with a name twice
    codes = {"name": "DELTA_BYTE_ARRAY", "offset": "DELTA_BINARY_PACKED", "size": "DELTA_BINARY_PACKED"}
    with write_atomically(out, INDEX) as temporary, pa.OSFile(temporary, "wb") as sink:  # a name may look like a URI
        pq.write_table(table, sink, compression="zstd", use_dictionary=False, column_encoding=codes)


def read_index(path: str, location: str) -> pa.Table:
    """Read an index that may come from anyone; see `walk` for the table.

    Raises:
        BadFileError: it is none: no Parquet, other columns, no identity, places outside the tar, names twice or not in
            the normal form.
    """
    import pyarrow.parquet as pq

    do = "Make it with `newsclippings index`, or leave visual_news_index out."
    try:
        table = pq.read_table(path)
        about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        kinds = [table.schema.field(name).type for name in SCHEMA.names]
        texts = [
            pa.types.is_string(kinds[0]) or pa.types.is_large_string(kinds[0]),
            *map(pa.types.is_integer, kinds[1:]),
        ]
        table = table.select(SCHEMA.names if all(texts) else []).cast(SCHEMA).combine_chunks()
        table.validate(full=True)  # Parquet does not say that a string is one
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        found = " ".join(str(error).split())[:200]
        raise bad_file(location, f"an index of a tar ({', '.join(SCHEMA.names)})", found, do) from None
    if not set(IDENTITY) <= set(about) or not re.fullmatch(r"\d{1,18}", about["tar_size"]):
        raise bad_file(location, f"the identity of the tar ({', '.join(IDENTITY)})", "none in its metadata", do)
    if any(table[name].null_count for name in SCHEMA.names) or not len(table):
        raise bad_file(location, "a name and a place for each member", "some without, or no member", do)
    offset, size = int64s(table["offset"]), int64s(table["size"])
    outside = (offset < BLOCK) | (size < 0) | (size > int(about["tar_size"])) | (offset > int(about["tar_size"]) - size)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise bad_file(location, "places inside the tar", f"{table['name'][row]} at byte {offset[row]}", do)
    names = one_chunk(table["name"])
    try:
        odd = not relative_paths(names).equals(names)
    except BadName as error:
        raise bad_file(location, "names below origin/", f"{names[error.position].as_py()!r}: {error.why}", do) from None
    if odd:
        raise bad_file(location, "names relative to origin", "some with its prefix", do)
    return table.replace_schema_metadata(about)
